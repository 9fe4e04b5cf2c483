import { resolve } from 'node:path'
import { InvalidArgumentError, type Command } from 'commander'
import { BOOTSTRAP, MIN_WINDOWS, type Estimate } from '@copal/lab/results/bootstrap.ts'
import {
  compareMethods,
  compareResults,
  type ComparedRow,
  type Comparison,
} from '@copal/lab/compare/compare-results.ts'
import { patternLabel } from '@copal/lab/results/labels.ts'
import { readResults } from '@copal/lab/results/results-file.ts'
import { counted, formatPerplexity } from '@copal/gpu-node/platform/quantities.ts'
import type { Session } from '../../api/session.ts'

interface CompareOptions {
  methods?: [string, string]
  json?: boolean
}

/** Adds `copal lab compare`, which compares two results, or two methods of one result. */
export function addLabCompare(lab: Command, session: Session): void {
  lab
    .command('compare')
    .description('compare two results, or two methods of one result')
    .argument('<a>', 'a result folder, or its results.json')
    .argument('[b]', 'the other result')
    .option('--methods <a,b>', 'two methods of one result, such as wanda,continual-wanda', twoMethods)
    .option('--json', 'print JSON')
    .addHelpText(
      'after',
      '\nExamples:\n  npx copal lab compare before after\n  npx copal lab compare results --methods dense,continual-wanda',
    )
    .action(async (a: string, b: string | undefined, options: CompareOptions, command: Command) => {
      const read = (path: string) => readResults(resolve(session.terminal.cwd, path))
      if (options.methods !== undefined) {
        if (b !== undefined)
          command.error('error: --methods compares within one result. Name one folder, or remove --methods.')
        const rows = compareMethods(await read(a), options.methods)
        session.print(options.json, { bootstrap: BOOTSTRAP, rows }, () => describeRows(rows, session))
        return
      }
      if (b === undefined)
        command.error(
          'error: name two results, or two methods of one result: npx copal lab compare A B, or npx copal lab compare A --methods x,y',
        )
      const comparison = compareResults(await read(a), await read(b))
      session.print(options.json, { bootstrap: BOOTSTRAP, ...comparison }, () =>
        describe(comparison, session),
      )
    })
}

function twoMethods(text: string): [string, string] {
  const [first, second, ...rest] = text.split(',').map((method) => method.trim())
  if (first && second && rest.length === 0 && first !== second) return [first, second]
  throw new InvalidArgumentError('Two different methods separated by a comma are expected.')
}

function describe({ inputs, refused, rows, onlyInA, onlyInB }: Comparison, session: Session): string {
  return [
    inputs.length === 0
      ? 'Same inputs, settings and machine.'
      : session.table(
          [
            { title: 'DIFFERS', value: ({ what }) => what },
            { title: 'A', value: (row) => row.a, shrinks: true },
            { title: 'B', value: (row) => row.b, shrinks: true },
          ],
          inputs,
        ),
    ...refused.map(({ domain, reason }) => `Not compared on ${domain}: ${reason}.`),
    rows.length === 0 ? 'No method was evaluated in both.' : describeRows(rows, session),
    ...(onlyInA.length > 0 ? [`Only in A: ${onlyInA.join('; ')}.`] : []),
    ...(onlyInB.length > 0 ? [`Only in B: ${onlyInB.join('; ')}.`] : []),
  ].join('\n\n')
}

function describeRows(rows: readonly ComparedRow[], session: Session): string {
  const pairs = Map.groupBy(rows, pairTitle)
  return [
    ...Array.from(pairs, ([title, domains]) => `${title}\n${pairTable(domains, session)}`),
    [
      'A, B: perplexity after the last stage. ΔNLL: B minus A, in nats per token.',
      'Intervals: 95 %, from a paired bootstrap over evaluation windows,',
      `${BOOTSTRAP.resamples} resamples, seed ${BOOTSTRAP.seed}; * marks intervals without 0.`,
      `Fewer than ${MIN_WINDOWS} windows give no interval: they may agree by chance.`,
    ].join('\n'),
  ].join('\n\n')
}

function pairTitle({ method, pattern, samples }: ComparedRow): string {
  return pattern === '' ? method : `${method}, ${patternLabel(pattern)}, ${counted(samples, 'sample')}`
}

function pairTable(rows: readonly ComparedRow[], session: Session): string {
  return session.table(
    [
      { title: 'DOMAIN', value: ({ domain }) => domain, shrinks: true },
      { title: 'A', value: (row) => formatPerplexity(row.perplexityA), align: 'right' },
      { title: 'B', value: (row) => formatPerplexity(row.perplexityB), align: 'right' },
      { title: 'ΔNLL', value: ({ nll }) => signed(nll.mean), align: 'right' },
      { title: 'INTERVAL', value: ({ nll }) => span(nll, signed), align: 'right' },
      { title: 'B/A', value: ({ ratio }) => ratio.mean.toFixed(3), align: 'right' },
      {
        title: 'INTERVAL',
        value: ({ ratio }) => span(ratio, (value) => value.toFixed(3)),
        align: 'right',
      },
      { title: '', value: ({ nll }) => (nll.low !== null && (nll.low > 0 || nll.high < 0) ? '*' : '') },
    ],
    rows,
  )
}

function span({ low, high }: Estimate, format: (value: number) => string): string {
  return low === null ? 'too few windows' : `${format(low)} to ${format(high)}`
}

function signed(value: number): string {
  const text = Math.abs(value).toFixed(3)
  return Number(text) === 0 ? text : `${value < 0 ? '−' : '+'}${text}`
}
