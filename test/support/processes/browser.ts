import { existsSync } from 'node:fs'
import { delimiter, join } from 'node:path'
import { chromium, type Browser } from 'playwright-core'

/** Names of the browser, in Debian and elsewhere. */
const PROGRAMS = ['chromium', 'chromium-browser', 'google-chrome-stable', 'google-chrome', 'chrome']

/**
 * The list of Playwright, because a second list replaces the first, and the pages of the address bar: each window loads them, which
 * takes 0.8 s of processor time.
 */
const DISABLED_FEATURES = [
  'AimEnabled',
  'AvoidCorsURLLoaderRestartOnRedirect',
  'AvoidUnnecessaryBeforeUnloadCheckSync',
  'DestroyProfileOnBrowserClose',
  'HttpsFirstBalancedModeAutoEnable',
  'HttpsUpgrades',
  'LensOverlay',
  'MediaRouter',
  'NetworkTimeServiceQuerying',
  'OptimizationHints',
  'PaintHolding',
  'PreconnectToSearch',
  'ThirdPartyStoragePartitioning',
  'WebUIOmniboxAimPopup',
  'WebUIOmniboxPopup',
]

/** It calls no service of its maker, and runs as root and without a GPU. */
const ARGUMENTS = [
  `--disable-features=${DISABLED_FEATURES.join(',')}`,
  '--no-sandbox',
  '--disable-gpu',
  '--disable-quic',
  '--no-first-run',
  '--disable-background-networking',
  '--disable-component-update',
  '--disable-sync',
]

/**
 * Starts the Chromium of the system without a window.
 *
 * @throws Error with one line that says what to install
 */
export function openBrowser(): Promise<Browser> {
  const executablePath = (process.env['PATH'] ?? '')
    .split(delimiter)
    .flatMap((dir) => PROGRAMS.map((name) => join(dir, name)))
    .find((path) => existsSync(path))
  if (executablePath === undefined)
    throw new Error(
      'There is no Chromium: install the package chromium (apt-get install chromium), or Google Chrome.',
    )
  return chromium.launch({ executablePath, args: ARGUMENTS })
}
