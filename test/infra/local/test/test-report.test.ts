import { describe, expect, test } from 'vitest'
import { closingLine } from '../../../../infra/local/test/test-report.ts'

const report = { numPassedTests: 12, numFailedTests: 0, numPendingTests: 1, numTodoTests: 0, testResults: [] }

describe('closingLine', () => {
  test('counts what passed, failed and was skipped', () => {
    expect(closingLine(report, 0)).toBe('12 passed, 0 failed, 1 skipped')
    expect(closingLine({ ...report, numFailedTests: 2 }, 1)).toBe('12 passed, 2 failed, 1 skipped')
  })

  test('a file that failed before its tests counts as one failure', () => {
    const testResults = [
      { status: 'failed', assertionResults: [] },
      { status: 'failed', assertionResults: [{}] },
      { status: 'passed', assertionResults: [{}] },
    ]
    expect(closingLine({ ...report, numFailedTests: 1, testResults }, 1)).toBe(
      '12 passed, 2 failed, 1 skipped',
    )
  })

  test('a run that failed without a failed test counts as one failure', () => {
    expect(closingLine(report, 1)).toBe('12 passed, 1 failed, 1 skipped')
    expect(closingLine(report, null)).toBe('12 passed, 1 failed, 1 skipped')
  })

  test('a run without a report counts as one failure', () => {
    expect(closingLine(undefined, 1)).toBe('0 passed, 1 failed')
  })
})
