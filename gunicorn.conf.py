"""What `gunicorn serve.app:app` reads in this folder: the names of serve/gunicorn_config.py."""

import os
import sys

# Wherever gunicorn was started, the project is what lies beside this file.
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

from serve.gunicorn_config import *  # noqa: F403
