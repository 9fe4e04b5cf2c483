/** Every page of the dashboard on a phone, with the responses of the invented service of `gateway/dashboard/dev`. */
import { spawn, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { join } from 'node:path'
import type { Browser, Page } from 'playwright-core'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { freePort } from '../../infra/local/processes/ports.ts'
import { overflowingCells, tooWide } from '../support/dashboard/page-checks.ts'
import { openBrowser } from '../support/processes/browser.ts'

const SERVER = join(import.meta.dirname, '../../gateway/dashboard/dev/server.mjs')
const PAGES = [
  '',
  '/domains',
  '/domains/support',
  '/domains/(other)',
  '/updates',
  '/updates/upd_0014',
  '/updates/upd_8f2c61',
  '/policy',
  '/masks',
  '/masks/14',
  '/nodes',
  '/keys',
  '/audit',
  '/playground',
]

let server: ChildProcess
let browser: Browser
let page: Page
let url: string

beforeAll(async () => {
  const port = await freePort()
  url = `http://localhost:${port}/dashboard`
  server = spawn(process.execPath, [SERVER, String(port), 'live'], { stdio: ['ignore', 'pipe', 'inherit'] })
  const failed = once(server, 'exit').then(() => Promise.reject(new Error(`no server at port ${port}`)))
  failed.catch(() => undefined)
  ;[browser] = await Promise.all([
    openBrowser(),
    Promise.race([once(server.stdout ?? server, 'data'), failed]),
  ])
  page = await browser.newPage({ viewport: { width: 390, height: 844 } })
})
afterAll(async () => {
  await browser?.close()
  server?.kill()
})

test.each(PAGES)('only heat maps and tables of many lines scroll sideways at %s', async (path) => {
  await page.goto(url + path)
  await page.getByRole('heading', { level: 1 }).waitFor()
  await page.locator('.skeleton').first().waitFor({ state: 'hidden' })
  // Everything is opened; what opens may contain more.
  for (let opened = 0, all = -1; opened !== all;) {
    opened = all
    all = await page.evaluate<number>(`(() => {
      const all = [...document.querySelectorAll('main details')]
      for (const each of all) each.open = true
      return new Promise((resolve) => setTimeout(() => resolve(all.length), 50))
    })()`)
  }
  const scrolling = await page.evaluate(`[...document.querySelectorAll('main *')]
    .filter((element) => element.scrollWidth > element.clientWidth + 1 && getComputedStyle(element).overflowX === 'auto')
    .filter((element) => !element.closest('.heat-map'))
    .filter((element) => !element.closest('.chart-table') || element.querySelectorAll('thead th').length <= 3)
    .map(({ outerHTML }) => outerHTML.slice(0, 200))`)
  expect([scrolling, await tooWide(page), await overflowingCells(page)]).toEqual([[], [], []])
})

test('the fleet names the last job that failed on a node, and why', async () => {
  await page.goto(`${url}/nodes`)
  const failed = page.getByText('node-3: a job of an update failed. No disk space is left in')
  expect(await failed.getByRole('link').getAttribute('href')).toMatch(/\/updates\/upd_0014$/)
})

test('the dialog that revokes a key of a long name begins lines at their start, keeps words whole, and says when it takes effect', async () => {
  const name = 'W'.repeat(128)
  await page.route('**/admin/keys', async (route) => {
    const response = await route.fetch()
    const list = (await response.json()) as { data: { name: string }[] }
    await route.fulfill({ response, json: { ...list, data: list.data.map((key) => ({ ...key, name })) } })
  })
  await page.goto(`${url}/keys`)
  await page.getByRole('button', { name: 'Revoke' }).first().click()
  const dialog = page.getByRole('dialog')
  expect(await dialog.textContent()).toContain('within half a minute')
  expect(await page.evaluate(`getComputedStyle(document.querySelector("dialog[open]")).textAlign`)).toBe(
    'start',
  )
  const leave = await dialog.getByRole('button', { name: 'Leave it' }).boundingBox()
  // One line.
  expect(leave?.height).toBeLessThan(40)
  await page.unroute('**/admin/keys')
})

test('the sentence of a page comes before its buttons', async () => {
  await page.goto(`${url}/masks`)
  const button = page.getByRole('button', { name: 'Roll back to mask 13' })
  await button.waitFor()
  const [sentence, actions] = [await page.locator('.sentence').boundingBox(), await button.boundingBox()]
  expect(actions?.y).toBeGreaterThanOrEqual((sentence?.y ?? Infinity) + (sentence?.height ?? 0))
})

test('domains that wait for a decision come before the table, and merging offers domains that are listed later', async () => {
  const isListed = Promise.withResolvers<void>()
  const list = /\/admin\/domains(\?|$)/
  await page.route(list, async (route) => {
    await isListed.promise
    await route.continue()
  })
  await page.goto(`${url}/domains`)
  await page.getByText('travel-booking').first().waitFor()
  isListed.resolve()
  await page.getByRole('button', { name: 'Merge' }).first().click()
  expect(await page.getByRole('dialog').getByLabel('Domain').inputValue()).toBe('speech')
  await page.getByRole('button', { name: 'Merge into speech' }).waitFor()
  await page.keyboard.press('Escape')
  expect(await page.getByRole('heading', { level: 2 }).allTextContents()).toEqual([
    'What pruning costs',
    'Found in the traffic',
    'All domains',
  ])
  await page.unroute(list)
})

test('a domain without requests says so once, without empty charts', async () => {
  await page.goto(`${url}/domains/(other)`)
  await page.getByText('No requests in this time.').waitFor()
  expect(await page.getByText('No requests in this time.').count()).toBe(1)
  expect(await page.locator('.plot').count()).toBe(0)
})

test('charts of a page share their cursor, which follows the pointer and the arrow keys and ends with them', async () => {
  await page.goto(`${url}/domains/support`)
  const plots = page.locator('.plot')
  const times = page.locator('.readout-x')
  await plots.nth(2).waitFor()
  expect(await times.count()).toBe(0)
  await plots.nth(1).press('Home')
  await plots.nth(1).press('ArrowRight')
  const [first, ...others] = await times.allTextContents()
  expect(first).toMatch(/^\d+ \w+, \d\d:\d\d$/)
  expect(others).toEqual([first, first])
  const dots = () =>
    page.evaluate<number[]>(
      `[...document.querySelectorAll('.plot circle')].map(({ cx }) => cx.baseVal.value)`,
    )
  expect(new Set(await dots()).size).toBe(1)
  await plots.nth(1).blur()
  await times.first().waitFor({ state: 'detached' })
  // The middle of the plot, which axes of 64 pixels at the left and 20 at the right surround.
  const box = await plots.first().boundingBox()
  if (!box) throw new Error('The chart is not drawn.')
  const middle = (64 + box.width - 20) / 2
  await plots.first().hover({ position: { x: middle, y: 40 } })
  const [at = 0] = await dots()
  expect(Math.abs(at - middle)).toBeLessThan(3)
  await plots.first().hover({ position: { x: 20, y: 40 } })
  await times.first().waitFor({ state: 'detached' })
  // The first line is drawn over the others.
  const strokes = (selector: string) =>
    page.evaluate<string[]>(
      `[...document.querySelectorAll('.chart')[1].querySelectorAll('${selector}')].map((each) => each.getAttribute('stroke'))`,
    )
  const [drawn, listed] = await Promise.all([strokes('.plot g[stroke^="var(--c"]'), strokes('.swatch line')])
  expect(drawn).toHaveLength(2)
  expect(drawn).toEqual(listed.toReversed())
})

test.each(['/domains', '/domains/support'])(
  'the charts of %s stay in place while they show values',
  async (path) => {
    await page.goto(url + path)
    await page.locator('.plot svg').last().waitFor()
    await page.locator('.skeleton').first().waitFor({ state: 'hidden' })
    const places = () =>
      page.evaluate(
        `[...document.querySelectorAll('.plot')].map((plot) => plot.getBoundingClientRect().y + scrollY)`,
      )
    const before = await places()
    await page.locator('.plot').first().press('End')
    await page.locator('.readout-x').first().waitFor()
    expect(await places()).toEqual(before)
  },
)

test.each([
  ['/domains', 390],
  ['/nodes', 1280],
])('parts of %s that come later move none that are there, %i pixels wide', async (path, width) => {
  const tab = await browser.newPage({ viewport: { width, height: 900 } })
  await tab.addInitScript(
    `new PerformanceObserver((list) => { window.moved = list.getEntries().reduce((sum, { value }) => sum + value, window.moved ?? 0) })
      .observe({ type: 'layout-shift', buffered: true })`,
  )
  // The domains and failed jobs that wait for somebody come last.
  await tab.route(/\/admin\/(proposals|nodes)/, async (route) => {
    await new Promise((resolve) => setTimeout(resolve, 500))
    await route.continue()
  })
  await tab.goto(url + path)
  await tab
    .getByText(path === '/nodes' ? 'Failed jobs' : 'travel-booking')
    .first()
    .waitFor()
  await tab.waitForTimeout(200)
  // A legend has as many lines as its names need.
  expect((await tab.evaluate<number | undefined>('window.moved')) ?? 0).toBeLessThan(0.03)
  await tab.close()
})

test.each(['/keys', '/nodes', '/domains', '/domains/support'])(
  'buttons of %s with the same text name what they act on',
  async (path) => {
    await page.goto(url + path)
    await page.locator('main .button-small').nth(3).waitFor()
    await page.locator('.skeleton').first().waitFor({ state: 'hidden' })
    const names = await page.evaluate<string[]>(
      `[...document.querySelectorAll('main .button-small')].map((button) => button.ariaLabel ?? button.textContent).filter((name) => !/CSV/.test(name))`,
    )
    expect(names.length).toBeGreaterThan(3)
    expect(names.filter((name, index) => names.indexOf(name) !== index)).toEqual([])
  },
)

test('Escape closes the menu and gives the focus back to its button', async () => {
  await page.goto(`${url}/masks`)
  const menu = page.getByRole('button', { name: 'Menu' })
  await menu.focus()
  await page.keyboard.press('Enter')
  const link = page.getByRole('navigation').getByRole('link', { name: 'Keys' })
  await link.focus()
  await page.keyboard.press('Escape')
  expect(await menu.getAttribute('aria-expanded')).toBe('false')
  expect(await page.evaluate('document.activeElement.textContent')).toBe('Menu')
})

test('characters of a name that are not seen are shown, in texts and labels', async () => {
  await page.goto(`${url}/keys`)
  await page.getByText('</script>\ufffdgnp.exe').waitFor()
  expect(await page.content()).not.toContain('\u202e')
})
