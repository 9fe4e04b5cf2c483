/**
 * Measures in Chromium what drawing the pages with 24 hours of 50 domains takes:
 * `node test/support/dashboard/measure-pages.ts [runs]`
 *
 * Each page is opened in a new tab. `work` is the processor time of the main thread until the page stood still (scripts, style,
 * layout and its part of painting), `ready` the time from the request until nothing loads and the page reacts to input, and
 * `moved` the greatest sum of layout shifts.
 */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { cpus } from 'node:os'
import { join } from 'node:path'
import type { CDPSession } from 'playwright-core'
import { openBrowser } from '../processes/browser.ts'

const RUNS = Number(process.argv[2] ?? 10)
const SERVER = join(import.meta.dirname, '../../../gateway/dashboard/dev/server.mjs')
/** `many` has values every five minutes, as the gateway gives them; `minutes` one a minute. */
const MODES = ['many', 'minutes']
const PAGES = ['/domains', '/domains/speech']
const FIRST_PORT = 8791
/** Time without work after which a page stands still, milliseconds. */
const REST_MS = 700

/** Runs in the page: notes when it is ready, and every layout shift. */
const OBSERVE = `
  window.moved = 0
  new PerformanceObserver((list) => { for (const { value } of list.getEntries()) window.moved += value })
    .observe({ type: 'layout-shift', buffered: true })
  const look = () => {
    const has = (selector) => document.querySelector(selector) !== null
    // The next task runs when the main thread is free again.
    if (has('h1') && has('.plot svg') && !has('.skeleton')) setTimeout(() => { window.readyAt = performance.now() })
    else requestAnimationFrame(look)
  }
  requestAnimationFrame(look)`

interface Run {
  work: number
  ready: number
  moved: number
  plots: number
}

const browser = await openBrowser()
const processor = `${cpus()[0]?.model} × ${cpus().length}`
process.stdout.write(`${processor}, Chromium ${browser.version()}, ${RUNS} runs, milliseconds\n`)
for (const [index, mode] of MODES.entries()) {
  const port = FIRST_PORT + index
  const server = spawn(process.execPath, [SERVER, String(port), mode], {
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  const failed = once(server, 'exit').then(() => Promise.reject(new Error(`no server at port ${port}`)))
  try {
    await Promise.race([once(server.stdout, 'data'), failed])
    for (const path of PAGES) {
      const runs: Run[] = []
      // The first run fills the caches of the browser.
      for (let run = 0; run <= RUNS; run++)
        runs.push(await measure(`http://localhost:${port}/dashboard`, path))
      process.stdout.write(`${mode} ${path}: ${describe(runs.slice(1))}\n`)
    }
  } finally {
    failed.catch(() => undefined)
    server.kill()
  }
}
await browser.close()

/** Opens a page in a tab that has been at the same origin, so that its process is there, and counts what it does. */
async function measure(origin: string, path: string): Promise<Run> {
  // Playwright's own functions are forbidden by the policy of the page otherwise.
  const context = await browser.newContext({ viewport: { width: 1280, height: 900 }, bypassCSP: true })
  const page = await context.newPage()
  await page.goto(`${origin}/icon.svg`)
  const devtools = await context.newCDPSession(page)
  await devtools.send('Performance.enable')
  await page.addInitScript(OBSERVE)
  const before = await timesOf(devtools)
  await page.goto(origin + path)
  await page.waitForFunction('window.readyAt !== undefined')
  await page.waitForTimeout(REST_MS)
  const after = await timesOf(devtools)
  const seen = await page.evaluate<Pick<Run, 'ready' | 'moved'>>(
    '({ ready: window.readyAt, moved: window.moved })',
  )
  const plots = await page.locator('.plot svg').count()
  await context.close()
  const ms = (name: string) => 1_000 * ((after.get(name) ?? 0) - (before.get(name) ?? 0))
  return {
    ...seen,
    plots,
    work: ms('ThreadTime'),
  }
}

/** Seconds that the process of a page spent, by kind. */
async function timesOf(devtools: CDPSession): Promise<Map<string, number>> {
  const { metrics } = await devtools.send('Performance.getMetrics')
  return new Map(metrics.map(({ name, value }) => [name, value]))
}

function describe(runs: readonly Run[]): string {
  const range = (name: 'work' | 'ready') => {
    const values = runs.map((run) => run[name]).toSorted((a, b) => a - b)
    const [least = 0, middle = 0, most = 0] = [values[0], values[values.length >> 1], values.at(-1)]
    return `${name} ${least.toFixed(0)} (median ${middle.toFixed(0)}, most ${most.toFixed(0)})`
  }
  const moved = Math.max(...runs.map((run) => run.moved)).toFixed(4)
  const names = (['work', 'ready'] as const).map(range).join('; ')
  return `${names}; moved ${moved}; ${runs[0]?.plots} plots`
}
