import { expect, test } from 'vitest'
import { reportedTokens } from '../../../../gpu-node/src/serving/control/reported-tokens.ts'

const ref = (index: number, domain: string) => ({
  sha256: index.toString(16).padStart(64, '0'),
  domain,
  samples: 16,
})
const tokensOf = ({ sha256 }: { sha256: string }, tokens: number) => ({ sha256, tokens })

test('a calibration of a hundred thousand datasets reports its own ones and one of each other domain', () => {
  const datasets = [ref(1, 'legal'), ref(2, 'code')]
  const accumulated = Array.from({ length: 100_000 }, (_, index) => ref(index + 3, `domain-${index % 7}`))
  const tokens = [...datasets, ...accumulated].map((each, index) => tokensOf(each, index))
  const reported = reportedTokens(tokens, { datasets, accumulated })
  expect(reported).toEqual(tokens.slice(0, 9))
  expect(JSON.stringify(reported).length).toBeLessThan(4 * 1024)
})

test('a domain of which no statistics count is not reported', () => {
  const accumulated = [ref(1, 'legal'), ref(2, 'code')]
  const tokens = [tokensOf({ sha256: ref(2, 'code').sha256 }, 5)]
  expect(reportedTokens(tokens, { datasets: [], accumulated })).toEqual(tokens)
})
