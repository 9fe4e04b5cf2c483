import { expect, test } from 'vitest'

/** Adds one skipped test in place of those of a file that need the native addon, so that the run reports them as skipped. */
export function skipWithoutAddon(what: string): void {
  test(`${what}, by the native addon`, ({ skip }) => {
    skip(true, 'there is no cargo here, which builds it')
    expect.unreachable('it is skipped')
  })
}
