/**
 * The dashboard in a real Chromium, on a real gateway with a real node and the tiny model. The tests share one browser session
 * and run in order. With `SCREENSHOTS=folder` every page is also drawn there, in both widths.
 */
import type { Browser, BrowserContext, Page } from 'playwright-core'
import type { StatusReport, UpdateEntry } from '@copal/shared/wire/admin.ts'
import type { OverviewReport } from '@copal/shared/wire/admin-overview.ts'
import type { DashboardLink } from '@copal/shared/wire/admin-session.ts'
import { afterAll, beforeAll, expect, onTestFinished, test } from 'vitest'
import {
  COLOR_RULES,
  draw,
  overflowingCells,
  seriousFindings,
  tooWide,
} from '../support/dashboard/page-checks.ts'
import { randomHalfMask } from '../support/models/random-masks.ts'
import { openBrowser } from '../support/processes/browser.ts'
import { startFleet, type TestFleet } from '../support/processes/fleet.ts'
import { until } from '../support/processes/service.ts'
import { testChangesMeanwhile } from './dashboard-changes.ts'
import { testPolicyPage } from './dashboard-policy.ts'

const SCRIPT = '<img src=x onerror="window.wasRun=1"><script>window.wasRun=1</script>'
const WIDTHS = { desktop: { width: 1280, height: 900 }, phone: { width: 390, height: 844 } }
const PAGES = [
  '/dashboard',
  '/dashboard/domains',
  '/dashboard/domains/default',
  '/dashboard/domains/(other)',
  '/dashboard/updates',
  '/dashboard/policy',
  '/dashboard/masks',
  '/dashboard/masks/2',
  '/dashboard/nodes',
  '/dashboard/keys',
  '/dashboard/audit',
  '/dashboard/playground',
]

let fleet: TestFleet
let browser: Browser
let context: BrowserContext
let page: Page
/** Errors that the browser reported. */
const errors: string[] = []

beforeAll(async () => {
  ;[fleet, browser] = await Promise.all([startFleet(), openBrowser()])
  // Axe is put into pages, which their own policy forbids to others.
  context = await browser.newContext({ viewport: WIDTHS.desktop, bypassCSP: true })
  page = await context.newPage()
  context.setDefaultTimeout(300_000)
  page.on('console', (message) => {
    if (message.type() === 'error') errors.push(`${page.url()}: ${message.text()}`)
  })
  page.on('response', (response) => {
    if (response.status() < 500) return
    void response.text().then(
      (body) => errors.push(`${response.url()}: ${body}`),
      () => undefined,
    )
  })
  page.on('pageerror', (error) => errors.push(`${page.url()}: ${error.message}`))
})
afterAll(async () => {
  await browser?.close()
  await fleet?.stop()
})

test('somebody without a session gets the form to sign in, and an unknown key is refused in words', async () => {
  const response = await page.goto(`${fleet.url}/dashboard`)
  expect(response?.headers()['content-security-policy']).toContain("default-src 'none'")
  await page.getByLabel('Key').fill('sk-copal-made-up')
  await page.getByRole('button', { name: 'Sign in' }).click()
  await page.getByText('This key is unknown, revoked or expired.').waitFor()
  errors.length = 0
})

test('a link signs in once, and its code leaves the address', async () => {
  const { url } = await fleet.admin<DashboardLink>('POST', '/admin/dashboard-links')
  const link = `${fleet.url}/dashboard${new URL(url).hash}`
  await page.goto(link)
  await page.getByRole('heading', { name: 'Overview' }).waitFor()
  expect(page.url()).not.toContain('code=')
  const [cookie] = await context.cookies()
  expect(cookie).toMatchObject({ name: 'copal_session', httpOnly: true, sameSite: 'Strict' })
  const other = await browser.newContext()
  const second = await other.newPage()
  await second.goto(link)
  await second.getByRole('button', { name: 'Sign in' }).waitFor()
  await other.close()
})

test('without a node, a mask or traffic every page says so', async () => {
  await eachPage(
    'empty',
    PAGES.filter((path) => !/\/(masks|domains)\/./.test(path)),
  )
  // The API says that it knows no model.
  expect(errors.filter((error) => !/ 503 |no model|No node/i.test(error))).toEqual([])
})

test('with a node, masks and traffic every page shows them, fits both widths and has no serious finding of axe', async () => {
  // No page reads the overview before there is traffic, because the gateway keeps the figures of domains for 30 seconds.
  await page.goto('about:blank')
  await fleet.start('node-1')
  await until('the model to be known', async () => {
    const { models } = await fleet.admin<StatusReport>('GET', '/admin/status')
    return models[0]
  })
  for (const seed of [1, 2]) await fleet.importMask(randomHalfMask(fleet.model, seed).bytes, true)
  await untilActive(2)
  // Names are data, whatever they look like.
  await fleet.admin('POST', '/admin/keys', { name: SCRIPT.slice(0, 64) })
  const { key } = await fleet.key()
  for (let index = 0; index < 4; index += 1)
    await complete(key, `Text ${index} of the default domain. ${SCRIPT}`)
  await fleet.settled()
  await eachPage('live', PAGES)
  expect(errors).toEqual([])
  expect(await page.evaluate('window.wasRun')).toBeUndefined()
})

test('the longest names and the default method fit both widths', async () => {
  const other = await browser.newContext({ storageState: await context.storageState() })
  const tab = await other.newPage()
  onTestFinished(async () => {
    // Requests that are on their way end without their page.
    await tab.unrouteAll({ behavior: 'ignoreErrors' })
    await other.close()
  })
  const names = {
    domain: 'd'.repeat(64),
    node: 'n'.repeat(64),
    method: 'continual-wanda+allocated+rows+swaps',
  }
  await tab.route('**/admin/**', async (route) => {
    if (route.request().url().includes('/admin/events')) return route.abort()
    const response = await route.fetch()
    const body = (await response.text())
      .replaceAll('"default"', `"${names.domain}"`)
      .replaceAll('"node-1"', `"${names.node}"`)
      .replaceAll(/"method":"[^"]*"/g, `"method":"${names.method}"`)
    return route.fulfill({ response, body })
  })
  const [update] = (await fleet.admin<{ data: UpdateEntry[] }>('GET', '/admin/updates')).data
  const paths = PAGES.map((path) => path.replace(/default$/, names.domain))
  for (const path of [...paths, `/dashboard/updates/${update?.id}`]) {
    await tab.goto(fleet.url + path)
    await tab.getByRole('heading', { level: 1 }).waitFor()
    await tab.locator('.skeleton').first().waitFor({ state: 'hidden' })
    for (const [name, size] of Object.entries(WIDTHS)) {
      await tab.setViewportSize(size)
      expect([path, name, await tooWide(tab), await overflowingCells(tab)]).toEqual([path, name, [], []])
    }
  }
})

test('a domain that the overview does not list shows its own traffic, and one without any says so', async () => {
  const tab = await tabWithClock()
  await tab.route('**/admin/events*', (route) => route.abort())
  await tab.route('**/admin/overview*', async (route) => {
    const response = await route.fetch()
    const report = (await response.json()) as OverviewReport
    await route.fulfill({ response, json: { ...report, domains: [] } })
  })
  const sentenceOf = async (domain: string) => {
    await tab.goto(`${fleet.url}/dashboard/domains/${domain}`)
    return tab.locator('.sentence').getByText(domain).textContent()
  }
  expect(await sentenceOf('default')).toMatch(/^default brings 100.% of the traffic\. /)
  expect(await sentenceOf('quiet')).toBe('quiet had no traffic in the last 24 hours.')
  await tab.context().close()
})

test('the playground streams two sets of weights side by side, and shows a prompt as text', async () => {
  await page.setViewportSize(WIDTHS.desktop)
  await page.goto(`${fleet.url}/dashboard/playground`)
  await page.getByRole('textbox').first().fill(SCRIPT)
  await page.getByRole('button', { name: 'Ask both' }).click()
  await page.locator('.tokens > *').first().waitFor({ state: 'attached' })
  expect(await page.evaluate('window.wasRun')).toBeUndefined()
  expect(errors).toEqual([])
})

test('a domain gets an owner, and the page says whose texts it keeps', async () => {
  await fleet.admin('PUT', '/admin/tenants/acme', {})
  await fleet.admin('POST', '/admin/domains/legal/texts', { texts: ['The text of an operator.'] })
  await page.goto(`${fleet.url}/dashboard/domains/legal`)
  await page.getByRole('button', { name: 'Change the owner' }).click()
  const dialog = page.getByRole('dialog')
  await dialog.getByLabel('Owner').selectOption('acme')
  expect(await dialog.textContent()).toContain('only sampled texts of acme are kept in legal')
  await dialog.getByRole('button', { name: 'Change the owner' }).click()
  await page.getByText('Only texts of tenant acme are kept.').waitFor()
  expect(errors).toEqual([])
})

test('nothing moves on the overview while live figures come', async () => {
  await page.goto(`${fleet.url}/dashboard`)
  // The sentence has another line as soon as the figures of domains come.
  await page.getByText('no request was scored').waitFor()
  const line = page.locator('.sparkline').first()
  // Its shape is the same while only one minute has tokens.
  const before = (await line.getAttribute('aria-label')) ?? ''
  await page.locator('.skeleton').first().waitFor({ state: 'hidden' })
  await page.evaluate(`window.moved = []; new PerformanceObserver((list) => {
    for (const { value, sources } of list.getEntries())
      window.moved.push([value, ...sources.map(({ node }) => node?.outerHTML ?? node?.textContent)])
  }).observe({ type: 'layout-shift' })`)
  await complete((await fleet.key()).key, 'A text that brings new figures.')
  await until(
    'the line to show it',
    async () => (await line.getAttribute('aria-label')) !== before || undefined,
  )
  expect(await page.evaluate('window.moved')).toEqual([])
})

test('rolling back says what it does, does it at once, and shows it', async () => {
  await page.goto(`${fleet.url}/dashboard/masks`)
  await page
    .getByRole('button', { name: /^Roll back to mask 1|^Activate/ })
    .first()
    .click()
  const dialog = page.getByRole('dialog')
  expect(await dialog.textContent()).toContain('mask 1')
  await dialog.getByRole('button', { name: /mask 1/ }).click()
  await untilActive(1)
  await dialog.waitFor({ state: 'hidden' })
  await page.goto(`${fleet.url}/dashboard`)
  await page
    .getByText(/Mask 1/)
    .first()
    .waitFor()
})

testPolicyPage({ page: () => page, fleet: () => fleet, errors })
testChangesMeanwhile({ tabWithClock, fleet: () => fleet })

test('the page of a mask on which an operator runs a canary says so', async () => {
  await fleet.admin('PUT', '/admin/canary', { mask_version: 2, share: 0.5 })
  await page.goto(`${fleet.url}/dashboard/masks/2`)
  await page.getByText('Mask 2 is a canary.').waitFor()
  expect(errors).toEqual([])
  await fleet.admin('DELETE', '/admin/canary')
})

test('the playground compares two answers to one prompt, not one with an earlier answer', async () => {
  await fleet.importMask(randomHalfMask(fleet.model, 3).bytes, false)
  await page.goto(`${fleet.url}/dashboard/playground?left=1&right=0`)
  const comparison = page.locator('.comparison')
  const ask = async (prompt: string) => {
    await page.getByRole('textbox', { name: 'Prompt' }).fill(prompt)
    await page.getByRole('button', { name: 'Ask both' }).click()
    await page.getByRole('button', { name: 'Stop' }).waitFor({ state: 'hidden' })
  }
  await ask('A first prompt')
  await comparison.getByText(/answers/).waitFor()
  await page.getByLabel('Weights on the left').locator('select').selectOption('3')
  await ask('A second prompt')
  await page.getByLabel('Weights on the right').getByText(/^Done/).waitFor()
  expect(await comparison.textContent()).toBe('')
})

test('a change without the token of the session, or from another site, changes nothing', async () => {
  const statusOf = (headers: Record<string, string>) =>
    page.evaluate(
      async ([path, sent]) =>
        (await fetch(path, { method: 'POST', headers: sent, body: '{"version":2}' })).status,
      ['/admin/rollback', { 'content-type': 'application/json', ...headers }] as const,
    )
  expect(await statusOf({})).toBe(403)
  expect(await statusOf({ 'x-copal-csrf': 'guessed' })).toBe(403)
  const foreign = await context.newPage()
  // Another origin of the same machine, from which a form needs no permission to send.
  await foreign.goto(fleet.url.replace('127.0.0.1', 'localhost') + '/docs')
  await foreign.setContent(
    `<form method="post" enctype="text/plain" action="${fleet.url}/admin/rollback"><input name='{"version":2,"x":"' value='"}'></form>`,
  )
  const response = foreign.waitForResponse((each) => each.url().endsWith('/admin/rollback'))
  await foreign.evaluate('document.forms[0].submit()')
  expect((await response).status()).toBeGreaterThanOrEqual(400)
  await foreign.close()
  const { models } = await fleet.admin<StatusReport>('GET', '/admin/status')
  expect(models[0]?.active_version).toBe(1)
  errors.length = 0
})

test('when the API fails every page says so and what to do, and loads when it answers again', async () => {
  const message = 'The database did not answer.'
  const body = JSON.stringify({
    error: { message, type: 'server_error', param: null, code: 'internal_error' },
  })
  await page.route('**/admin/**', (route) =>
    route.fulfill({ status: 500, contentType: 'application/json', body }),
  )
  // The playground needs only the list of models, which no admin route gives.
  for (const path of PAGES.filter((each) => !each.endsWith('/playground'))) {
    await page.goto(fleet.url + path)
    await page.getByRole('alert').getByText(message).first().waitFor()
    await page.getByRole('button', { name: 'Try again' }).first().waitFor()
    expect([path, await seriousFindings(page)]).toEqual([path, []])
    await draw(page, 'failing', path)
  }
  await page.unroute('**/admin/**')
  await page.getByRole('button', { name: 'Try again' }).first().click()
  await page.getByRole('alert').first().waitFor({ state: 'hidden' })
  errors.length = 0
})

test('when the gateway falls silent the page keeps what it has and says since when and why', async () => {
  await page.goto(`${fleet.url}/dashboard`)
  await page
    .getByText(/Mask 1/)
    .first()
    .waitFor()
  await fleet.killGateway()
  await page.getByText(/No data for .* The gateway cannot be reached\./).waitFor()
  expect(await page.getByText(/Mask 1/).count()).toBeGreaterThan(0)
  await draw(page, 'silent', '/dashboard')
  await fleet.startGateway()
  await page.getByText(/No data for/).waitFor({ state: 'hidden' })
})

/** Opens a tab whose clock can be put forward to the time at which it looks again. */
async function tabWithClock(): Promise<Page> {
  const other = await browser.newContext({ storageState: await context.storageState() })
  other.setDefaultTimeout(300_000)
  const tab = await other.newPage()
  await tab.clock.install()
  return tab
}

/** Opens pages in both widths, and expects no error, nothing that scrolls sideways, and no serious finding of axe. */
async function eachPage(state: string, paths: readonly string[]): Promise<void> {
  errors.length = 0
  for (const path of paths) {
    await page.setViewportSize(WIDTHS.desktop)
    await page.goto(fleet.url + path)
    await page.getByRole('heading', { level: 1 }).waitFor()
    await page.locator('.skeleton').first().waitFor({ state: 'hidden' })
    for (const colorScheme of ['dark', 'light'] as const) {
      await page.emulateMedia({ colorScheme })
      // The second scheme changes nothing but colors.
      const rules = colorScheme === 'dark' ? undefined : COLOR_RULES
      expect([path, colorScheme, await seriousFindings(page, rules)]).toEqual([path, colorScheme, []])
    }
    for (const [name, size] of Object.entries(WIDTHS)) {
      await page.setViewportSize(size)
      expect([path, name, await tooWide(page)]).toEqual([path, name, []])
      await draw(page, `${state}-${name}`, path)
    }
  }
}

function untilActive(version: number): Promise<true> {
  return until(`mask ${version}`, async () => {
    const { models } = await fleet.admin<StatusReport>('GET', '/admin/status')
    return models[0]?.active_version === version && models[0].converged ? true : undefined
  })
}

async function complete(key: string, prompt: string): Promise<void> {
  const response = await fetch(`${fleet.url}/v1/completions`, {
    method: 'POST',
    headers: { authorization: `Bearer ${key}`, 'content-type': 'application/json' },
    body: JSON.stringify({ model: 'tiny', prompt, max_tokens: 4, temperature: 0 }),
  })
  if (!response.ok) throw new Error(await response.text())
}
