import type { Page } from 'playwright-core'
import type { StatusReport } from '@copal/shared/wire/admin.ts'
import type { AuditEntry } from '@copal/shared/wire/admin-audit.ts'
import type { KeyEntry } from '@copal/shared/wire/admin-keys.ts'
import { expect, test } from 'vitest'
import type { TestFleet } from '../support/processes/fleet.ts'

/** Adds tests of pages on which something changes while a person works. */
export function testChangesMeanwhile({
  tabWithClock,
  fleet,
}: {
  /** Opens a tab whose clock can be put forward. */
  tabWithClock: () => Promise<Page>
  /** Exists from the first test on. */
  fleet: () => TestFleet
}): void {
  test('limits that somebody else changes while the dialog of a key is open are kept', async () => {
    const { id } = await fleet().key({ requests_per_minute: 60 })
    const tab = await tabWithClock()
    const dialog = tab.getByRole('dialog')
    await tab.goto(`${fleet().url}/dashboard/keys?q=${id}`)
    await tab.locator('tbody').getByRole('button', { name: 'Limits' }).click()
    await fleet().admin('PATCH', `/admin/keys/${id}`, { limits: { requests_per_minute: 90 } })
    await tab.clock.fastForward(31_000)
    await tab.getByText('90 req/min').waitFor({ state: 'attached' })
    await dialog.getByLabel('Tokens a minute').fill('500')
    await dialog.getByRole('button', { name: 'Save' }).click()
    await dialog.waitFor({ state: 'hidden' })
    const { data } = await fleet().admin<{ data: KeyEntry[] }>('GET', '/admin/keys')
    expect(data.find((key) => key.id === id)?.limits).toMatchObject({
      requests_per_minute: 90,
      tokens_per_minute: 500,
    })
    await tab.context().close()
  })

  test('a request that fails after its dialog was closed shows its error', async () => {
    const { id } = await fleet().key()
    const tab = await tabWithClock()
    const message = 'The database did not answer.'
    const failing = Promise.withResolvers<void>()
    await tab.route('**/rotate', async (route) => {
      await failing.promise
      await route.fulfill({ status: 500, json: { error: { message, code: 'internal_error' } } })
    })
    await tab.goto(`${fleet().url}/dashboard/keys?q=${id}`)
    await tab.getByRole('button', { name: 'Rotate' }).click()
    const dialog = tab.getByRole('dialog')
    await dialog.getByRole('button', { name: 'Rotate' }).click()
    await dialog.getByRole('button', { name: 'Leave it' }).click()
    failing.resolve()
    await tab.getByText(message).waitFor()
    expect(await dialog.count()).toBe(0)
    await tab.context().close()
  })

  test('a dialog about a roll-back closes when the previous mask has become another one', async () => {
    const tab = await tabWithClock()
    let previous = 2
    await tab.route('**/admin/status', async (route) => {
      const response = await route.fetch()
      const report = (await response.json()) as StatusReport
      const models = report.models.map((model) => ({ ...model, previous_version: previous }))
      await route.fulfill({ response, json: { ...report, models } })
    })
    await tab.goto(`${fleet().url}/dashboard/masks`)
    await tab.getByRole('button', { name: /to mask 2$/ }).click()
    await tab.getByRole('heading', { name: /^(Roll back|Return) to mask 2\?$/ }).waitFor()
    previous = 3
    await tab.clock.fastForward(11_000)
    await tab.getByText(/^(Roll back|Return) to mask 3$/).waitFor({ state: 'attached' })
    expect(await tab.getByRole('dialog').count()).toBe(0)
    await tab.context().close()
  })

  test('older entries of the audit log stay joined to the newest ones while new ones come', async () => {
    const tab = await tabWithClock()
    let newest = 1_000
    await tab.route('**/admin/audit?**', async (route) => {
      const before = Number(new URL(route.request().url()).searchParams.get('before') ?? newest + 1)
      const data = Array.from({ length: 200 }, (_, index) => auditRow(before - 1 - index))
      await route.fulfill({
        json: { data, checkpoint: null, next_after: null, next_before: before - 200 },
      })
    })
    await tab.goto(`${fleet().url}/dashboard/audit`)
    await tab.getByRole('button', { name: 'Load older entries' }).click()
    await tab.getByRole('button', { name: 'Show all 400' }).click()
    newest += 5
    await tab.clock.fastForward(31_000)
    await tab.getByText('Entry 1005 is the newest.').waitFor()
    const shown = await tab.locator('tbody tr > td:first-child').allTextContents()
    expect(shown).toEqual(Array.from({ length: 405 }, (_, index) => String(newest - index)))
    await tab.context().close()
  })
}

function auditRow(id: number): AuditEntry {
  const hash = '0'.repeat(64)
  return {
    id,
    actor: 'copal',
    action: 'decision.promote',
    target: 'tiny/m1',
    before: null,
    after: { verdict: 'done' },
    reason: '',
    request_id: null,
    created_at: id,
    previous_hash: hash,
    hash,
    sealed: true,
  }
}
