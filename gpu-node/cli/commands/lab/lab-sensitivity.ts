import { resolve } from 'node:path'
import type { Command } from 'commander'
import type { LayerSensitivity } from '@copal/gpu-node/model/sensitivities/layer-sensitivity.ts'
import { openNamedMask } from '../../input/mask-file.ts'
import type { Session } from '../../api/session.ts'
import { addTextOptions, measureOnText, type TextOptions } from './measure-on-text.ts'

/** Adds `copal lab sensitivity`, which measures what methods with `+allocated` use to distribute the ratio. */
export function addLabSensitivity(lab: Command, session: Session): void {
  const command = lab
    .command('sensitivity')
    .description(
      'measure what pruning each linear costs; methods with +allocated but without +rows need this once per model',
    )
    .argument(
      '<mask>',
      "a mask file that prunes every linear, from 'npx copal masks export' or 'npx copal masks build'",
    )
  addTextOptions(command, { windows: 12, windowTokens: 256 })
    .addHelpText(
      'after',
      '\nExamples:\n  npx copal masks export m1 --out first.safetensors\n  npx copal lab sensitivity first.safetensors --text general.txt',
    )
    .action((mask: string, options: TextOptions) => measure(mask, options, session))
}

async function measure(mask: string, options: TextOptions, session: Session): Promise<void> {
  const { measureLayerSensitivity } =
    await import('@copal/gpu-node/pruning/sensitivity/measure-layer-sensitivity.ts')
  const { layerSensitivityPath } = await import('@copal/gpu-node/model/sensitivities/layer-sensitivity.ts')
  const maskPath = resolve(session.terminal.cwd, mask)
  // Checked here so that a wrong file is rejected before the model is opened.
  openNamedMask(mask, session.terminal.cwd).close()
  const { found, path } = await measureOnText(
    session,
    options,
    layerSensitivityPath,
    (model, work) => measureLayerSensitivity(model, { ...work, maskPath }),
    (measured) => `${JSON.stringify(measured, null, 2)}\n`,
  )
  session.print(options.json, { path, ...found }, () => describe(found, path))
}

/** Describes the cost of each kind of linear as a share of the total cost. */
function describe({ divergence, linears }: LayerSensitivity, path: string): string {
  const sums = new Map<string, number>()
  let total = 0
  for (const [name, { loss }] of Object.entries(linears)) {
    const kind = name.split('.').slice(3, -1).join('.')
    sums.set(kind, (sums.get(kind) ?? 0) + loss)
    total += loss
  }
  return [
    `With all linears pruned: ${divergence.toFixed(3)} nats per token. Share of each kind of linear, over all blocks:`,
    ...[...sums].map(([kind, sum]) => `  ${kind.padEnd(20)} ${((100 * sum) / total).toFixed(1)} %`),
    path,
    'Nodes that serve this model use it after their next start.',
  ].join('\n')
}
