/**
 * Takes the pictures of the dashboard in `docs/images` from the invented service: `node test/support/dashboard/take-pictures.ts`.
 * Reduce them to 256 colours before they are committed.
 */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { join } from 'node:path'
import { openBrowser } from '../processes/browser.ts'

const ROOT = join(import.meta.dirname, '../../..')
const PORT = 8894
/** Time in which a page and its charts are drawn. */
const SETTLE_MS = 1_500
const SIZES = { desktop: { width: 1280, height: 900 }, phone: { width: 390, height: 844 } }
const PICTURES = [
  { name: 'overview-desktop', path: '' },
  { name: 'overview-dark', path: '', theme: 'dark' },
  { name: 'overview-phone', path: '' },
  { name: 'domain-desktop', path: '/domains/support' },
  { name: 'domain-phone', path: '/domains/support' },
  { name: 'updates-desktop', path: '/updates' },
  { name: 'policy-desktop', path: '/policy' },
  { name: 'mask-desktop', path: '/masks/14' },
  { name: 'fleet-desktop', path: '/nodes' },
  { name: 'playground-desktop', path: '/playground' },
] as const

const server = spawn(
  process.execPath,
  [join(ROOT, 'gateway/dashboard/dev/server.mjs'), String(PORT), 'live'],
  {
    stdio: ['ignore', 'pipe', 'inherit'],
  },
)
const failed = once(server, 'exit').then(() => Promise.reject(new Error(`no server at port ${PORT}`)))
const browser = await openBrowser()
try {
  await Promise.race([once(server.stdout, 'data'), failed])
  for (const { name, path, ...rest } of PICTURES) {
    const context = await browser.newContext({
      viewport: name.endsWith('phone') ? SIZES.phone : SIZES.desktop,
      colorScheme: 'theme' in rest ? rest.theme : 'light',
    })
    const page = await context.newPage()
    await page.goto(`http://localhost:${PORT}/dashboard${path}`)
    await page.waitForTimeout(SETTLE_MS)
    await page.screenshot({ path: join(ROOT, `docs/images/dashboard-${name}.png`), fullPage: true })
    await context.close()
  }
} finally {
  failed.catch(() => undefined)
  server.kill()
  await browser.close()
}
