import { test } from 'vitest'

/** One skipped test for all of a file that need the native addon: none that is not there counts as passed. */
export function leaveOut(what: string): void {
  // oxlint-disable-next-line vitest/expect-expect -- it stands for tests that are not there
  test(`${what}, by the native addon`, ({ skip }) => skip('there is no cargo here, which builds it'))
}
