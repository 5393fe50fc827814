#!/usr/bin/env bash
# Makes every picture of the book anew that isn't drawn by hand: the console's views in a real browser, light and dark, and
# what commands print on a terminal. `tests/run.sh` installs what it takes.
set -euo pipefail
cd "$(dirname "$0")/.."
TOLLGATE_BLESS=1 cargo test --test it -- console::an_incident_is_seen book::pictures
git status --short docs/src/pictures
