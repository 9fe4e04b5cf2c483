import { expect, test } from 'vitest'

/** One skipped test for all of a file that need the native addon: none that is not there counts as passed. */
export function leaveOut(what: string): void {
  test(`${what}, by the native addon`, ({ skip }) => {
    skip(true, 'there is no cargo here, which builds it')
    expect.unreachable('it is skipped')
  })
}
