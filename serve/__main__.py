"""`python -m serve`: become the server, gunicorn with its configuration, wherever it is started."""

import argparse
import os
import sys

from tumour_segmenter import needs

NO_OPTIONS = "settings are environment variables"


def main() -> None:
    """Check options and settings, then let gunicorn take this process over."""
    from tumour_segmenter.command import ignore_closed_output
    from tumour_segmenter.errors import SettingsError

    from .settings import VARIABLES, Settings

    ignore_closed_output()
    defaults = {v.name: f" (default: {v.default})" if v.default else "" for v in VARIABLES}
    parser = argparse.ArgumentParser(
        prog="tumour-segmenter serve",
        description=f"Answer HTTP requests; {NO_OPTIONS}:\n\n"
        + "\n".join(f"  {v.name:<10} {v.help}{defaults[v.name]}" for v in VARIABLES),
        epilog="Research software, not a medical device.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    _, unknown = parser.parse_known_args()
    if unknown:
        parser.error(f"unknown: {' '.join(unknown)}; {NO_OPTIONS}")
    try:
        Settings.read()
    except SettingsError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    configuration = f"python:{__package__}.gunicorn_config"
    command = [sys.executable, "-m", "gunicorn", "-c", configuration, f"{__package__}.app:app"]
    os.execv(sys.executable, command)


if __name__ == "__main__":
    needs.check("serve", "numpy", "PIL", "onnxruntime", "flask", "gevent", "gunicorn")
    main()
