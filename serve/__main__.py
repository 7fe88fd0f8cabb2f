"""`python -m serve`: become the server, gunicorn with its configuration, wherever it is started."""

import argparse
import os
import sys

from tumour_segmenter import needs

if __name__ == "__main__":
    needs.check(*needs.SERVING)
    from tumour_segmenter.settings import VARIABLES

    defaults = {v.name: f" (default: {v.default})" if v.default else "" for v in VARIABLES}
    argparse.ArgumentParser(
        prog=f"python -m {__package__}",
        description="Answer HTTP requests. Settings are environment variables:\n\n"
        + "\n".join(f"  {v.name:<10} {v.help}{defaults[v.name]}" for v in VARIABLES),
        epilog="Research software, not a medical device.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    ).parse_args()
    configuration = f"python:{__package__}.gunicorn_config"
    command = [sys.executable, "-m", "gunicorn", "-c", configuration, f"{__package__}.app:app"]
    os.execv(sys.executable, command)
