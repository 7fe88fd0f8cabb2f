FROM python:3.12.12-slim-bookworm

ENV PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 ORT_DISABLE_TELEMETRY=1
WORKDIR /app

COPY requirements-serve.txt requirements-metrics.txt ./
# One after the other: where one file has hashes, pip would ask for those of all packages.
RUN pip install --no-cache-dir --disable-pip-version-check -r requirements-serve.txt && \
    pip install --no-cache-dir --disable-pip-version-check -r requirements-metrics.txt

COPY gunicorn.conf.py LICENSE ./
COPY deploy/healthcheck.py deploy/
COPY tumour_segmenter tumour_segmenter
COPY serve serve
COPY artifacts/model.onnx artifacts/model.onnx.sha256 artifacts/fast.onnx artifacts/fast.onnx.sha256 \
    artifacts/

USER 10001:10001
EXPOSE 8000
HEALTHCHECK --interval=30s --timeout=5s --start-period=15s \
    CMD ["python", "deploy/healthcheck.py"]
CMD ["gunicorn", "serve.app:app"]
