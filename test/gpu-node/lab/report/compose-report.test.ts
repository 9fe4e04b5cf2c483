import { describe, expect, test } from 'vitest'
import { composeReport } from '../../../../gpu-node/lab/report/compose-report.ts'
import type { Cell, ReportDocument, Table } from '../../../../gpu-node/lab/report/document/report-document.ts'
import type { LabResults } from '../../../../gpu-node/lab/results/lab-results.ts'
import { meansOfMaxima, summarise } from '../../../../gpu-node/lab/results/summary.ts'
import { generatedResults } from '../../../support/pruning/lab-results.ts'

const results = generatedResults()
const report = composeReport(results)
/** Results of two methods, where the test is not about the numbers of the others. */
const few: LabResults = {
  ...results,
  runs: results.runs.filter(({ method }) => method === 'copal' || method === 'continual-wanda'),
}

describe('the main table', () => {
  const table = tableOf(report, 'Forgetting and perplexity', '50 % unstructured')

  test('has a row for the dense model and for each method and scope', () => {
    expect(column(table, 'Method')).toEqual([
      'dense',
      'magnitude per matrix',
      'wanda',
      'sparsegpt',
      'copal per matrix',
      'copal',
      'continual-wanda',
      'continual-sparsegpt',
      'continual-wanda+swaps',
      'continual-wanda+swaps+reconstruct',
    ])
  })

  test('prints WS if the mask never changed, and still its perplexity', () => {
    const [, magnitude] = table.rows
    expect(magnitude?.slice(1, 3)).toEqual(['WS', 'WS'])
    expect(magnitude?.[3]).toMatch(/^\d{3}\.\d$/)
  })

  test('prints forgetting if the mask never changed but surviving weights did', () => {
    const still = results.runs.flatMap((run) => {
      if (run.method !== 'continual-wanda+swaps+reconstruct' || run.purpose !== 'main') return []
      const matrices = run.matrices.map((matrix) => ({ ...matrix, churn: matrix.churn.map(() => 0) }))
      return [{ ...run, method: 'magnitude+reconstruct', matrices, summary: summarise(matrices) }]
    })
    expect(still[0]?.summary?.weightStasis).toBe(true)
    const sections = composeReport({ ...results, runs: still })
    const main = tableOf(sections, 'Forgetting and perplexity', '50 % unstructured')
    const { aBwt, mBwt } = still[0]?.summary ?? {}
    const ofMaxima = meansOfMaxima(still[0]?.matrices ?? []).mBwt
    expect(main.rows[1]?.slice(1, 3)).toEqual([
      aBwt?.toFixed(3),
      `${mBwt?.toFixed(3)} (${ofMaxima?.toFixed(3)})`,
    ])
    const datasets = tableOf(sections, 'Per dataset and stage', '50 % unstructured')
    expect(column(datasets, 'forgotten')).not.toContain('WS')
  })

  test('prints the figures of the summary', () => {
    const run = results.runs.find(({ method }) => method === 'continual-wanda')
    const means = meansOfMaxima(run?.matrices ?? [])
    expect(table.rows[6]).toEqual([
      'continual-wanda',
      run?.summary?.aBwt?.toFixed(3),
      `${run?.summary?.mBwt?.toFixed(3)} (${means.mBwt?.toFixed(3)})`,
      run?.summary?.aPpl?.toPrecision(4),
      expect.stringMatching(/^\d\d\.\d\d–\d\d\.\d\d$/),
      expect.stringMatching(/^1\.\d{3} \(1\.\d{3}–1\.\d{3}\)$/),
      `${run?.summary?.mPpl?.toPrecision(4)} (${means.mPpl?.toPrecision(4)})`,
      'accumulated',
    ])
  })

  test('the lowest mean perplexity has the ratio 1', () => {
    expect(table.rows.at(-1)?.[5]).toBe('1')
  })

  test('marks nothing as lowest while a method is missing', () => {
    const runs = few.runs.map((run) => (run.method === 'copal' ? { ...run, summary: null } : run))
    const partial = tableOf(
      composeReport({ ...results, runs }),
      'Forgetting and perplexity',
      '50 % unstructured',
    )
    expect(partial.rows.flat().filter((cell) => typeof cell !== 'string')).toEqual([])
    expect(new Set(column(partial, '÷ lowest'))).toEqual(new Set(['', '–']))
  })

  test('emphasises only the lowest mean perplexity', () => {
    const strong = table.rows.flat().filter((cell) => typeof cell !== 'string')
    const best = Math.min(
      ...results.runs
        .filter(({ pattern, purpose }) => pattern === '0.5' && purpose === 'main')
        .map(({ summary }) => summary?.aPpl ?? Infinity),
    )
    expect(strong).toEqual([{ text: best.toPrecision(4), style: 'strong' }])
  })
})

describe('the table after the last stage', () => {
  const table = tableOf(
    report,
    'After the last stage, by domain',
    '50 % unstructured; × dense: geometric mean over the domains',
  )

  test('marks domains that were never calibrated on, and averages them separately', () => {
    expect(table.columns.map(({ title }) => title)).toEqual([
      'Method',
      'encyclopedia',
      'newswire',
      'code',
      'speeches ∘',
      'mail ∘',
      '× dense',
      '× dense ∘',
    ])
  })

  test('has the perplexity of the fully accumulated stage', () => {
    const stage = results.runs
      .find(({ method }) => method === 'continual-wanda')
      ?.stages.find(({ domains }) => domains.length === 3)
    const row = table.rows.find(([method]) => method === 'continual-wanda')
    expect(row?.[4]).toBe(stage?.evaluations['speeches']?.perplexity.toPrecision(4))
  })
})

test('the dataset table has the perplexity alone, after each stage, relative to alone, and the forgetting', () => {
  // Two datasets, both orders, computed by hand: `a` is learned first at 10 and is at 14 after the last stage; in the other
  // order it is learned last, at 12.
  const small = generatedResults()
  const run = small.runs[5]!
  small.domains = small.domains.slice(0, 2)
  const [a, b] = small.domains.map(({ name }) => name) as [string, string]
  const stage = run.stages.find(({ evaluations }) => evaluations[a])!
  small.runs = [
    {
      ...run,
      stages: [
        { ...stage, domains: [a], evaluations: { [a]: { ...stage.evaluations[a]!, perplexity: 10 } } },
      ],
      matrices: [
        {
          order: [a, b],
          R: [
            [10, null],
            [14, 40],
          ],
          churn: [0.1],
        },
        {
          order: [b, a],
          R: [
            [30, null],
            [33, 12],
          ],
          churn: [0.1],
        },
      ],
    },
  ]
  const table = tableOf(composeReport(small), 'Per dataset and stage', '50 % unstructured')
  expect(table.columns.map(({ title }) => title)).toEqual([
    'Method',
    'Dataset',
    'dense',
    'alone',
    'stage 1',
    'stage 2',
    '÷ alone',
    'forgotten',
  ])
  expect(table.rows.map((row) => row.slice(3))).toEqual([
    ['10.00', '10.00', '13.00', '1.300', '4.000'],
    ['–', '30.00', '36.50', '–', '3.000'],
  ])
})

describe('sweeps', () => {
  test('have one panel and one table per domain, by sparsity and by samples', () => {
    expect(panelNames(report)).toEqual(
      expect.arrayContaining(['sparsity-newswire', 'sparsity-mail', 'samples-newswire', 'samples-mail']),
    )
    const table = tableOf(report, 'Sparsity', 'newswire')
    expect(table.columns.map(({ title }) => title)).toEqual([
      'Method',
      '30 %',
      '40 %',
      '50 %',
      '60 %',
      '70 %',
    ])
    expect(tableOf(report, 'Calibration samples', 'newswire').columns).toHaveLength(5)
  })

  test('use the main run for missing points', () => {
    const without = {
      ...results,
      runs: results.runs.filter(({ purpose, pattern }) => purpose !== 'sparsity-sweep' || pattern !== '0.5'),
    }
    const table = tableOf(composeReport(without), 'Sparsity', 'newswire')
    const main = tableOf(
      report,
      'After the last stage, by domain',
      '50 % unstructured; × dense: geometric mean over the domains',
    )
    const figureOf = (rows: Cell[][], index: number) =>
      rows.find(([method]) => method === 'continual-wanda')?.[index]
    expect(column(table, '50 %')).not.toContain('–')
    expect(
      figureOf(
        table.rows,
        table.columns.findIndex(({ title }) => title === '50 %'),
      ),
    ).toBe(figureOf(main.rows, 2))
  })
})

test('layer errors are relative to the mask selected by scores alone, even after two refinements', () => {
  const small = generatedResults()
  const run = small.runs.find(({ method }) => method === 'continual-wanda+swaps+reconstruct')!
  const last = run.stages.find(({ domains }) => domains.length === 3)!
  last.layerErrors = {
    'model.layers.0.mlp.up_proj.weight': { score: 8, before: 4, after: 2 },
    'model.layers.1.mlp.up_proj.weight': { score: 5, before: 4, after: 5 },
  }
  small.runs = [run]
  const table = tableOf(
    composeReport(small),
    'Output error by layer',
    'Geometric mean over all linears, by pattern',
  )
  expect(table.rows).toEqual([['continual-wanda+swaps+reconstruct', '0.500']])
})

test('an incomplete run lists first what is missing, and renders the rest', () => {
  const stages = results.runs[5]!.stages.slice(0, 2)
  const interrupted: LabResults = {
    ...results,
    runs: [results.runs[4]!, { ...results.runs[5]!, stages, matrices: [], summary: null }],
    incomplete: ['continual-wanda at 50 % unstructured: 5 of 7 masks'],
  }
  const document = composeReport(interrupted)
  expect(document.sections[0]?.blocks[0]).toEqual({
    kind: 'notice',
    text: 'Incomplete: this has not been run yet.',
    items: ['continual-wanda at 50 % unstructured: 5 of 7 masks'],
  })
  const table = tableOf(document, 'Forgetting and perplexity', '50 % unstructured')
  expect(table.rows[2]).toEqual(['continual-wanda', ...Array<string>(6).fill('–'), 'accumulated'])
})

test('warnings about shared text come first', () => {
  const warnings = ["'mail': 2.0 % of the evaluation text is also in the calibration samples."]
  expect(composeReport({ ...few, warnings }).sections[0]?.blocks[0]).toEqual({
    kind: 'notice',
    text: 'Some texts have something in common.',
    items: warnings,
  })
})

test('text with a warning is never called held out', () => {
  const textOf = (given: LabResults) =>
    composeReport(given).sections.flatMap(({ blocks }) =>
      blocks.flatMap((block) => (block.kind === 'paragraph' ? [block.text] : [])),
    )
  const said = [
    'Evaluated on held-out text of the same and, never calibrated on',
    'Perplexity on text that was not calibrated on.',
  ]
  const doubtful = [
    'Evaluated on text of the same, held out but for what is said above and, never calibrated on',
    'Perplexity on text that was not calibrated on, but for what the notice at the top says.',
  ]
  const clean = textOf({ ...few, warnings: [] }).join()
  const warned = textOf({ ...few, warnings: ["'code': its perplexity is not held out."] }).join()
  for (const sentence of said)
    expect([clean.includes(sentence), warned.includes(sentence)]).toEqual([true, false])
  for (const sentence of doubtful)
    expect([clean.includes(sentence), warned.includes(sentence)]).toEqual([false, true])
})

test('a run without methods shows its inputs and states that there are none', () => {
  const empty: LabResults = { ...results, runs: [], dense: {}, calibration: [], incomplete: ['dense'] }
  const document = composeReport(empty)
  expect(document.sections.map(({ title }) => title)).toEqual(['This run', 'Inputs, settings, machine'])
  expect(document.sections[0]?.blocks[0]).toMatchObject({ items: ['no method has been run', 'dense'] })
})

test('domains whose names differ only by punctuation have their own plots', () => {
  const renamed = JSON.parse(
    JSON.stringify(few).replaceAll('"speeches"', '"a b"').replaceAll('"mail"', '"a.b"'),
  ) as LabResults
  const names = panelNames(composeReport(renamed))
  expect(names).toEqual(expect.arrayContaining(['sparsity-a-b', 'sparsity-a-b-2']))
  expect(new Set(names).size).toBe(names.length)
})

function tableOf(document: ReportDocument, section: string, caption: string): Table {
  const blocks = document.sections.find(({ title }) => title === section)?.blocks ?? []
  const tables = blocks.flatMap((block) =>
    block.kind === 'table' ? [block] : block.kind === 'details' ? block.tables : [],
  )
  const table = tables.find((candidate) => candidate.caption === caption)
  if (!table) throw new Error(`no table ${caption}: ${tables.map((each) => each.caption).join('; ')}`)
  return table
}

function column(table: Table, title: string): Cell[] {
  const index = table.columns.findIndex((candidate) => candidate.title === title)
  return table.rows.map((row) => row[index] ?? '')
}

function panelNames({ sections }: ReportDocument): string[] {
  return sections.flatMap(({ blocks }) =>
    blocks.flatMap((block) => (block.kind === 'figure' ? block.panels.map(({ name }) => name) : [])),
  )
}

test('costs name the machines on which they were measured, also unrecorded ones', () => {
  const timed = { ...few }
  const costs = () =>
    composeReport(timed)
      .sections.find(({ title }) => title === 'Costs')
      ?.blocks.find(({ kind }) => kind === 'paragraph')
  expect(costs()).toMatchObject({ text: expect.stringContaining('a machine that was not recorded') })
  timed.timedOn = [{ cpu: 'EPYC', threads: 2 }, null]
  expect(costs()).toMatchObject({
    text: 'Wall-clock time when it was measured, on 2 threads of EPYC; on a machine that was not recorded.',
  })
})

test('with pruned propagation calibration is part of selection, not a separate cost', () => {
  const tables = (propagation: LabResults['settings']['propagation']) =>
    composeReport({ ...few, settings: { ...few.settings, propagation } })
      .sections.find(({ title }) => title === 'Costs')
      ?.blocks.flatMap((block) => (block.kind === 'table' ? [block] : []))
  const [calibration, selection] = tables('dense')!
  expect(calibration?.columns.map(({ title }) => title)).toEqual([
    'Domain',
    'samples',
    'tokens',
    'time',
    'tokens/s',
  ])
  expect(selection?.caption).toBe('Selection and evaluation')
  expect(tables('pruned')!.map(({ caption }) => caption)).toEqual([
    'Selection, with the calibration that pruned propagation makes for a mask, and evaluation',
  ])
})
