import { expect, test } from 'vitest'
import { formatPerplexity } from '../../../../gpu-node/src/platform/quantities.ts'
import { composeReport } from '../../../../gpu-node/lab/report/compose-report.ts'
import { runLabSettings } from '../../../support/pruning/run-lab-settings.ts'
import { createLabFolder } from '../../../support/pruning/lab-folder.ts'

test('a method that needs no text is evaluated without calibrated domains', async () => {
  const folder = await createLabFolder()
  const settings = folder.settings({
    specs: ['mail=:mail.eval.txt'],
    methods: ['magnitude'],
    maxWindows: 1,
  })
  const { results, done } = await runLabSettings(settings)
  expect(done).toEqual({ calibrated: 0, selected: 1, evaluated: 2 })
  expect(results.incomplete).toEqual([])
  expect(results.runs.map(({ stages, matrices }) => [stages.length, matrices.length])).toEqual([[1, 0]])
  const perplexity = results.runs[0]?.stages[0]?.evaluations['mail']?.perplexity
  expect(JSON.stringify(composeReport(results))).toContain(formatPerplexity(perplexity ?? Number.NaN))
}, 180_000)
