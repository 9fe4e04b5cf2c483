import { expect, test } from 'vitest'
import { usageSamples } from '../../../../gateway/src/usage/metrics/request-metrics.ts'

const ROW = {
  model: 'tiny',
  domain: 'code',
  maskVersion: 1,
  driftRequests: 0,
  driftTokens: 0,
  nllMasked: 0,
  nllDense: 0,
}

test('tokens that were counted of a request whose client got no output are shown as moved, also without a request', () => {
  const { requestsMoved, tokensMoved } = usageSamples([
    { ...ROW, finishReason: 'moved', requests: 0, promptTokens: -10, completionTokens: -5 },
    { ...ROW, domain: 'legal', finishReason: 'moved', requests: 0, promptTokens: 0, completionTokens: 0 },
  ])
  const labels = ['tiny', 'code', 1]
  expect(requestsMoved).toEqual([{ labels, value: 0 }])
  expect(tokensMoved).toEqual([{ labels, value: -15 }])
})
