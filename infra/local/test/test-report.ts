/** The part of Vitest's JSON report that the closing line needs. */
export interface TestReport {
  numPassedTests: number
  numFailedTests: number
  numPendingTests: number
  numTodoTests: number
  testResults: { status: string; assertionResults: unknown[] }[]
}

/**
 * Returns the last line of a test run: `12 passed, 0 failed, 1 skipped`.
 *
 * A file that failed before its tests counts as one failure. So does a run that failed although no test did (an
 * unhandled rejection), and a run without a report.
 */
export function closingLine(report: TestReport | undefined, exitCode: number | null): string {
  if (report === undefined) return '0 passed, 1 failed'
  const brokenFiles = report.testResults.filter(
    ({ status, assertionResults }) => status === 'failed' && assertionResults.length === 0,
  ).length
  const failed = report.numFailedTests + brokenFiles
  const skipped = report.numPendingTests + report.numTodoTests
  return `${report.numPassedTests} passed, ${failed === 0 && exitCode !== 0 ? 1 : failed} failed, ${skipped} skipped`
}
