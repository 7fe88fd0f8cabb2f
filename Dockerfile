FROM python:3.12.12-slim-bookworm

ENV PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
WORKDIR /app

COPY requirements-serve.txt ./
RUN pip install --no-cache-dir --disable-pip-version-check -r requirements-serve.txt

COPY gunicorn.conf.py LICENSE ./
COPY serve serve
COPY artifacts/model.onnx artifacts/model.onnx.sha256 artifacts/
COPY artifacts/model.int8.onnx artifacts/model.int8.onnx.sha256 artifacts/

USER 10001:10001
EXPOSE 8000
HEALTHCHECK --interval=30s --timeout=5s --start-period=15s \
    CMD ["python", "-c", "import os, urllib.request as u; u.urlopen('http://127.0.0.1:%s/healthz/ready' % (os.environ.get('PORT') or 8000), timeout=4)"]
CMD ["gunicorn", "serve.app:app"]
