import type { Page } from 'playwright-core'
import type { PolicyReport } from '@copal/shared/wire/admin-policy.ts'
import { expect, test } from 'vitest'
import type { TestFleet } from '../support/processes/fleet.ts'

/** Adds the test of the page of the policy. */
export function testPolicyPage({
  page,
  fleet,
  errors,
}: {
  /** Exists from the first test on, as does the fleet. */
  page: () => Page
  fleet: () => TestFleet
  /** Errors that the browser reported. */
  errors: string[]
}): void {
  test('a setting of the policy is changed beside the changes of others, and goes back to the preset', async () => {
    const overridesOf = async () => (await fleet().admin<PolicyReport>('GET', '/admin/policy')).overrides
    const before = await overridesOf()
    await page().goto(`${fleet().url}/dashboard/policy`)
    await page().getByRole('button', { name: 'Change Maximum holdouts of an update' }).click()
    const dialog = page().getByRole('dialog')
    await dialog.getByLabel('New value').fill('0')
    await dialog.getByText('Expected a whole number, from 1 to 256.').waitFor()
    await dialog.getByLabel('New value').fill('7')
    // Somebody else, while the dialog is open.
    await fleet().admin('PUT', '/admin/policy', { ...before, effort: { ...before.effort, node_share: 0.2 } })
    await dialog.getByRole('button', { name: 'Set it to 7' }).click()
    await dialog.waitFor({ state: 'hidden' })
    expect(await page().evaluate('document.activeElement.outerHTML')).toContain(
      'aria-label="Change Maximum holdouts of an update"',
    )
    await page().getByRole('button', { name: 'Back to the preset: Maximum holdouts of an update' }).click()
    expect(await overridesOf()).toEqual({
      ...before,
      effort: { ...before.effort, node_share: 0.2, max_holdouts: 7 },
    })
    await dialog.getByRole('button', { name: 'Set it to 16' }).click()
    await dialog.waitFor({ state: 'hidden' })
    expect(await overridesOf()).toEqual({ ...before, effort: { ...before.effort, node_share: 0.2 } })
    expect(errors).toEqual([])
    // The dialog shows the error of the gateway.
    await page().getByRole('button', { name: 'Change Quiet hours' }).click()
    await dialog.getByLabel('New value').fill('at night')
    await dialog.getByRole('button', { name: 'Set it to at night' }).click()
    await dialog.getByRole('alert').getByText('22:00-06:00').waitFor()
    await fleet().admin('PUT', '/admin/policy', before)
    errors.length = 0
  })
}
