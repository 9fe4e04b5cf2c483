import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import { parseResults, readResults, writeResults } from '../../../../gpu-node/lab/results/results-file.ts'
import { generatedResults } from '../../../support/pruning/lab-results.ts'
import { temporaryDir } from '../../../support/harness/temporary.ts'

test('a written result is read back unchanged, from its folder and from its file', async () => {
  const dir = temporaryDir()
  const results = generatedResults()
  await writeResults(dir, results)
  expect(await readResults(dir)).toEqual(results)
  expect(await readResults(join(dir, 'results.json'))).toEqual(results)
})

test('a summary may differ by rounding, and an unfinished run has none', () => {
  const results = generatedResults()
  const [, wanda, sparsegpt] = results.runs
  if (wanda?.summary?.aPpl) wanda.summary.aPpl *= 1 + 1e-13
  if (sparsegpt) sparsegpt.summary = null
  expect(parseResults(JSON.stringify(results), 'r')).toEqual(results)
})

test('unknown fields of newer versions are accepted', () => {
  const results = { ...generatedResults(), remark: 'new' }
  expect(parseResults(JSON.stringify(results), 'r')).toMatchObject({ model: { id: 'generated-135m' } })
})

describe('unreadable results are one-line errors', () => {
  test('a folder that does not exist', async () => {
    const dir = join(temporaryDir(), 'nowhere')
    await expect(readResults(dir)).rejects.toMatchObject({
      code: 'results_missing',
      message: `${dir} does not exist: expected a folder that 'npx copal lab run' wrote.`,
    })
  })

  test('a folder without a result', async () => {
    const dir = temporaryDir()
    await expect(readResults(dir)).rejects.toMatchObject({
      code: 'results_missing',
      message: expect.stringContaining(`${join(dir, 'results.json')} does not exist: expected`),
    })
  })

  test('a truncated file', async () => {
    const dir = temporaryDir()
    await writeFile(join(dir, 'results.json'), JSON.stringify(generatedResults()).slice(0, 1000))
    await expect(readResults(dir)).rejects.toMatchObject({
      code: 'results_malformed',
      message: expect.stringContaining('is not JSON: it may have been cut off.'),
    })
  })

  test('another format version, even where other fields are unknown', () => {
    const text = JSON.stringify({ format_version: 2, results: [] })
    expect(() => parseResults(text, 'r.json')).toThrow(
      'r.json has format_version 2; this copal reads 1. Read it with the copal that wrote it, or run the laboratory again.',
    )
  })

  test.each([
    { what: 'a list', text: '[]', says: 'it: Invalid input: expected object, received array.' },
    { what: 'another JSON object', text: '{}', says: 'format_version: Invalid input' },
  ])('$what', ({ text, says }) => {
    expect(() => parseResults(text, 'r.json')).toThrow(`r.json is not a laboratory result: ${says}`)
  })

  test.each<{ what: string; spoil: (results: ReturnType<typeof generatedResults>) => void; says: string }>([
    {
      what: 'a hash that is none',
      spoil: ({ model }) => (model.baseSha256 = 'abc'),
      says: 'model.baseSha256: expected 64 hexadecimal digits',
    },
    {
      what: 'an evaluation of a domain that is not listed',
      spoil: ({ domains }) => domains.splice(4, 1),
      says: 'dense evaluates mail, which domains does not list',
    },
    {
      what: 'windows that are missing',
      spoil: ({ runs }) => runs[1]?.stages[0]?.evaluations['code']?.windowNll.pop(),
      says: 'runs.1.stages.0 (wanda 0.5) has 23 windows of code, expected 24',
    },
    {
      what: 'a matrix that is not square',
      spoil: ({ runs }) => runs[0]?.matrices[2]?.R.pop(),
      says: 'runs.0.matrices.2.R is not 3 by 3, as its order asks',
    },
    {
      what: 'a permutation of something else',
      spoil: ({ runs }) => runs[0]?.matrices[0]?.order.splice(0, 1, 'poetry'),
      says: 'runs.0.matrices.0 orders poetry, which domains does not list',
    },
    {
      what: 'churn between stages that there are not',
      spoil: ({ runs }) => runs[0]?.matrices[0]?.churn.push(0.1),
      says: 'runs.0.matrices.0.churn has 3 entries, expected 2',
    },
    {
      what: 'a mean perplexity that its matrices do not give',
      spoil: ({ runs }) => Object.assign(runs[1]?.summary ?? {}, { aPpl: 12.5 }),
      says: 'runs.1 (wanda 0.5): summary says a-ppl 12.5, but its R matrices give ',
    },
    {
      what: 'a matrix that was changed after it was summed up',
      spoil: ({ runs }) => {
        const [, second] = runs[1]?.matrices[0]?.R ?? []
        if (second) second[0] = (second[0] ?? 0) * 1.0001
      },
      says: 'runs.1 (wanda 0.5): summary says a-ppl ',
    },
    {
      what: 'forgetting that was left out',
      spoil: ({ runs }) => Object.assign(runs[1]?.summary ?? {}, { aBwt: null }),
      says: 'runs.1 (wanda 0.5): summary says a-bwt null, but its R matrices give ',
    },
    {
      what: 'weight stasis where masks changed',
      spoil: ({ runs }) => Object.assign(runs[1]?.summary ?? {}, { weightStasis: true }),
      says: 'runs.1 (wanda 0.5): summary says weight stasis, but by its churn there is none',
    },
    {
      what: 'a summary of nothing',
      spoil: ({ runs }) => runs[1]?.matrices.splice(0),
      says: 'runs.1 (wanda 0.5): there is a summary without an R matrix',
    },
  ])('$what', ({ spoil, says }) => {
    const results = generatedResults()
    spoil(results)
    expect(() => parseResults(JSON.stringify(results), 'r.json')).toThrow(
      `r.json is not a laboratory result: ${says}`,
    )
  })
})
