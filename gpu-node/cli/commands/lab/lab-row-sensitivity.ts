import type { Command } from 'commander'
import type { RowSensitivity } from '@copal/gpu-node/model/sensitivities/row-sensitivity.ts'
import type { Session } from '../../api/session.ts'
import { addTextOptions, measureOnText, type TextOptions } from './measure-on-text.ts'

/** Adds `copal lab row-sensitivity`, which measures what methods with `+rows` use to distribute a linear's ratio. */
export function addLabRowSensitivity(lab: Command, session: Session): void {
  const command = lab
    .command('row-sensitivity')
    .description(
      'measure what an error in each output of each linear costs; methods with +rows need this once per model',
    )
  addTextOptions(command, { windows: 64, windowTokens: 512 })
    .addHelpText('after', '\nExample:\n  npx copal lab row-sensitivity --text general.txt')
    .action((options: TextOptions) => measure(options, session))
}

async function measure(options: TextOptions, session: Session): Promise<void> {
  const { measureRowSensitivity } =
    await import('@copal/gpu-node/pruning/sensitivity/measure-row-sensitivity.ts')
  const { encodeRowSensitivity, rowSensitivityPath } =
    await import('@copal/gpu-node/model/sensitivities/row-sensitivity.ts')
  const { found, path } = await measureOnText(
    session,
    options,
    rowSensitivityPath,
    measureRowSensitivity,
    encodeRowSensitivity,
  )
  const { text, nll_mean, linears } = found
  const json = { path, text, nll_mean, linears: Object.keys(linears).length }
  session.print(options.json, json, () => describe(found, path))
}

/** Describes how unequal the rows of each kind of linear are. */
function describe({ nll_mean, linears }: RowSensitivity, path: string): string {
  const kinds = new Map<string, number[]>()
  for (const [name, { rows }] of Object.entries(linears)) {
    const kind = name.split('.').slice(3, -1).join('.')
    kinds.set(kind, [...(kinds.get(kind) ?? []), shareOfTopTenth(rows)])
  }
  return [
    `Perplexity of the text: ${Math.exp(nll_mean).toFixed(2)}. Share of the cost of equal errors that falls on the most expensive`,
    "tenth of a linear's rows, averaged over the blocks:",
    ...[...kinds].map(([kind, shares]) => {
      const mean = shares.reduce((sum, share) => sum + share, 0) / shares.length
      return `  ${kind.padEnd(20)} ${(100 * mean).toFixed(0)} %`
    }),
    path,
    'Nodes that serve this model use it after their next start.',
  ].join('\n')
}

function shareOfTopTenth(values: Float32Array): number {
  const sorted = values.toSorted().toReversed()
  const sum = (part: Float32Array) => part.reduce((total, value) => total + value, 0)
  return sum(sorted.subarray(0, Math.ceil(sorted.length / 10))) / (sum(sorted) || 1)
}
