#!/usr/bin/env bash
# Makes the pictures of the README and the book from a real run: a terminal recording (SVG) and screenshots (PNG).
# Needs a built binary, Python, Node.js and Chromium; `docs/images.sh` writes docs/src/images/.
set -euo pipefail
cd "$(dirname "$0")/.."

binary="${CARGO_TARGET_DIR:-target}/release/pipeline"
out="$PWD/docs/src/images"
work=$(mktemp -d)
trap 'rm -rf "$work"; [ -z "${server:-}" ] || kill "$server" 2>/dev/null || true' EXIT
mkdir -p "$out"

python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet asciinema==2.4.0
npm install --silent --prefix "$work/npm" svg-term-cli@2.1.1 playwright-core@1.64.1

# The recording: the default run in an empty store, thinned to two frames a second and sped up so that it lasts 20 seconds.
ln -s "$(realpath "$binary")" "$work/pipeline"
PATH="$work:$PATH" "$work/venv/bin/asciinema" rec --quiet --cols 126 --rows 30 --command \
    "echo '$ pipeline run pipeline.toml'; pipeline run pipeline.toml --set store=$work/store; sleep 3" "$work/full.cast"
python3 - "$work/full.cast" "$work/thin.cast" "$work/store" <<'PY'
import json, sys
# The temporary store is shown as the default one.
header, *events = [json.loads(line.replace(sys.argv[3], "experiments")) for line in open(sys.argv[1])]
end = events[-1][0]
speed = max(1.0, end / 20)
frames = []
for time, _, text in events:
    time /= speed
    if frames and time - frames[-1][0] < 0.5:
        frames[-1][2] += text
    else:
        frames.append([time, "o", text])
frames.append([frames[-1][0] + 4, "o", ""])
with open(sys.argv[2], "w") as out:
    for line in [header, *frames]:
        out.write(json.dumps(line) + "\n")
PY
"$work/npm/node_modules/.bin/svg-term" --in "$work/thin.cast" --out "$out/run.svg" --window --width 126 --height 30

# The screenshots: the report of that run, and the server's page after a completion.
"$binary" serve latest --store "$work/store" --port 8931 >/dev/null 2>&1 &
server=$!
cat > "$work/npm/shots.mjs" <<'JS'
import { chromium } from 'playwright-core';
const [report, out] = process.argv.slice(2);
const browser = await chromium.launch({
  executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium',
  args: ['--no-sandbox', '--disable-gpu', '--disable-background-networking'],
});
const page = await browser.newPage({ viewport: { width: 1100, height: 900 } });
await page.goto('file://' + report);
await page.screenshot({ path: out + '/report.png' });
await page.setViewportSize({ width: 1280, height: 1050 });
await page.goto('http://127.0.0.1:8931/');
await page.locator('#state[data-state=ready]').waitFor();
await page.getByLabel('Prompt', { exact: true }).fill('fn main() {');
await page.getByLabel('Show probabilities').check();
await page.getByLabel('Seed').fill('7');
await page.locator('#max_tokens').fill('150');
await page.getByRole('button', { name: 'Generate' }).click();
await page.getByText('Finished').waitFor();
// Hovering scrolls, which hides the description; moving shows it.
const token = page.locator('.token[data-level="3"]').nth(1);
await token.hover();
await page.waitForTimeout(200);
const { x, y } = await token.boundingBox();
await page.mouse.move(0, 0);
await page.mouse.move(x + 3, y + 8);
await page.screenshot({ path: out + '/page.png' });
await browser.close();
JS
report=$(ls -d "$work"/store/runs/*/report.html | tail -n 1)
for _ in $(seq 50); do
    if curl --silent --fail http://127.0.0.1:8931/v1/models >/dev/null; then break; fi
    sleep 0.2
done
node "$work/npm/shots.mjs" "$report" "$out"
ls -l "$out"
