import { expect, test } from 'vitest'
import { createProgressReporter, type ModelProgress } from '../../../gpu-node/src/platform/progress.ts'

function reporterAt(times: number[]) {
  const reports: ModelProgress[] = []
  let call = 0
  const report = createProgressReporter(
    (progress) => void reports.push(progress),
    'download',
    'm',
    () => times[call++]!,
  )
  return { reports, report }
}

test('the time left is computed from the mean rate', () => {
  const { reports, report } = reporterAt([0, 2000])
  report(200, 1000)
  expect(reports).toEqual([
    { stage: 'download', what: 'm', doneBytes: 200, totalBytes: 1000, secondsLeft: 8 },
  ])
})

test('without a total, and before the first byte, no time left is shown', () => {
  const { reports, report } = reporterAt([0, 1000, 2000])
  report(0, 1000)
  report(10, null)
  expect(reports.map(({ secondsLeft }) => secondsLeft)).toEqual([null, null])
})

test('there are at most ten reports per second, and the last one always comes, once', () => {
  const { reports, report } = reporterAt([0, 0, 50, 99, 100, 101, 102, 300])
  report(1, 10)
  report(2, 10)
  report(3, 10)
  report(4, 10)
  report(10, 10)
  report(10, 10)
  expect(reports.map(({ doneBytes }) => doneBytes)).toEqual([1, 4, 10])
})

test('a total that becomes known at the end is reported', () => {
  const { reports, report } = reporterAt([0, 0, 10])
  report(10, null)
  report(10, 10)
  expect(reports.map(({ totalBytes }) => totalBytes)).toEqual([null, 10])
})
