import { existsSync, readFileSync } from 'node:fs'
import { availableParallelism } from 'node:os'
import { basename, join, resolve } from 'node:path'
import { InvalidArgumentError, Option, type Command } from 'commander'
import { heartbeatResponse } from '@copal/shared/wire/heartbeat.ts'
import { z } from 'zod'
import { loadNative, NativeUnavailableError } from '@copal/gpu-node/platform/native-addon.ts'
import { processorName } from '@copal/gpu-node/platform/processor-name.ts'
import { counted, formatBytes, formatMask, formatPerplexity } from '@copal/gpu-node/platform/quantities.ts'
import { UserError } from '@copal/gpu-node/platform/user-error.ts'
import type { Precision } from '@copal/gpu-node/native/addon.d.ts'
import { MAX_THREADS, PRECISIONS } from '@copal/gpu-node/serving/contract/backend.ts'
import { advise, frontOf, type Advice, type AdviceRow } from '@copal/gpu-node/serving/advice/advice.ts'
import type { AdviceMask } from '@copal/gpu-node/serving/advice/measure-advice.ts'
import { int4FormOf } from '@copal/gpu-node/serving/backends/sparse/form-choice.ts'
import type { Session } from '../api/session.ts'
import { advisedService } from '../input/advised-service.ts'
import { splitBundledText } from '../input/bundled-text.ts'
import { openLocalModel } from '../input/local-model.ts'
import { openNamedMask } from '../input/mask-file.ts'
import { readTextFile } from '../input/text-file.ts'
import { positiveNumber, splitList, windowTokens } from '../options/option-parsers.ts'
import { interruptible } from '../output/interruptible.ts'
import { createProgressBar } from '../output/progress-bar.ts'
import type { Terminal } from '../output/terminal.ts'

interface AdviseOptions {
  json?: boolean
  model?: string
  precision: Precision[]
  text?: string
  tokens: number
  seconds: number
  threads?: number
}

/** The rows of the advice, and the machine and model that they hold for. */
interface Report {
  machine: string
  model: string
  text: string
  rows: AdviceRow[]
  advice: Advice
}

const WINDOW_TOKENS = 512

/** Takes the place of the advice where a GPU serves: its speeds are not measured. */
const ON_GPU =
  'COPAL_BACKEND is gpu: speeds and bytes are those of the processor, and say nothing about the GPU that serves. Perplexities ' +
  'hold for both in the same form; a GPU stores pruned bf16 and int4 packed, and int8 dense.'

export function addAdvise(program: Command, session: Session): void {
  program
    .command('advise')
    .description(
      'measure on this machine which mask, precision and form serve the model best, in about a minute',
    )
    .argument('[files...]', "mask files (default: the active and the previous mask of the service's home)")
    .option('--model <source>', 'the model, as COPAL_MODEL names it')
    .addOption(
      new Option('--precision <list>', 'precisions to measure')
        .argParser(precisions)
        .default([...PRECISIONS], PRECISIONS.join()),
    )
    .option(
      '--text <file>',
      "text that the masks were not calibrated on (default: the bundled one's held-out part)",
    )
    .option('--tokens <n>', 'tokens of the text to measure the perplexity on', windowTokens, 2048)
    .option('--seconds <n>', 'time in which rounds of speed measurements begin', positiveNumber, 30)
    .option('--threads <n>', 'threads of a step (default: COPAL_THREADS, or every processor)', threads)
    .option('--json', 'print JSON')
    .addHelpText(
      'after',
      '\nThe node may serve meanwhile, but then both are slower and the figures are\nworth less.' +
        '\n\nExamples:\n  npx copal advise\n  npx copal advise half.safetensors --precision bf16,int8\n  npx copal advise --text contracts.txt --json',
    )
    .action(async (files: string[], options: AdviseOptions) => {
      const report = await measure(files, options, session)
      session.print(options.json, forPrograms(report), () => describe(report, session))
    })
}

async function measure(files: readonly string[], options: AdviseOptions, session: Session): Promise<Report> {
  const { terminal } = session
  const { env, signal } = terminal
  const addon = openAddon()
  const { masks, active } = files.length > 0 ? namedMasks(files, terminal.cwd) : masksOfHome(terminal)
  const texts = options.text
    ? [readTextFile(options.text, terminal.cwd)]
    : splitBundledText(terminal.root).heldOut
  const { model } = await openLocalModel(terminal, options.model)
  const { cutWindows } = await import('@copal/gpu-node/pruning/evaluation/text-windows.ts')
  const { keepHint } = await import('@copal/gpu-node/serving/advice/advice-hint.ts')
  const { measureAdvice } = await import('@copal/gpu-node/serving/advice/measure-advice.ts')
  const length = Math.min(WINDOW_TOKENS, options.tokens, model.config.contextLength)
  const source = { texts: [texts.join('\n\n')] }
  const { windows } = await cutWindows(source, model.codec, length, Math.ceil(options.tokens / length))
  const threadCount = options.threads ?? (env.COPAL_THREADS ? Number(env.COPAL_THREADS) : undefined)
  const bar = createProgressBar(terminal.stderr)
  const rows = await interruptible(signal, bar, 'Interrupted. Nothing was changed.', () =>
    measureAdvice({
      addon,
      model,
      masks,
      precisions: options.precision,
      headPrecision: PRECISIONS.find((name) => name === env.COPAL_HEAD_PRECISION),
      threads: threadCount,
      windows,
      timeLimitMs: options.seconds * 1000,
      signal,
      onProgress: (what, share) => bar.update(what, share),
    }),
  )
  const service = advisedService(terminal, active, options.model)
  const kernel = addon.kernels()[0] ?? 'none'
  const onGpu = env.COPAL_BACKEND === 'gpu'
  const advice = advise(rows, service.now, int4FormOf(kernel))
  if (onGpu) advice.sentence = ON_GPU
  // Advice on files is not about the service.
  else if (files.length === 0) await keepHint(service, advice)
  const tokens = windows.reduce((sum, window) => sum + window.length - 1, 0)
  const used = threadCount ?? Math.min(availableParallelism(), MAX_THREADS)
  return {
    machine: `${processorName()}, ${counted(used, 'thread')}, kernel ${kernel}`,
    model: model.id,
    text: `${counted(tokens, 'token')} of ${options.text ?? 'the bundled text'}`,
    rows,
    advice,
  }
}

function openAddon() {
  try {
    return loadNative()
  } catch (cause) {
    if (!(cause instanceof NativeUnavailableError)) throw cause
    throw new UserError('no_addon', cause.message, { cause })
  }
}

/** The masks to measure, and the name of the one that the advice compares with; null is dense. */
interface MeasuredMasks {
  masks: AdviceMask[]
  active: string | null
}

/** @throws UserError when a file is no mask */
function namedMasks(files: readonly string[], cwd: string): MeasuredMasks {
  const masks = files.map((file) => {
    openNamedMask(file, cwd).close()
    return { name: basename(file, '.safetensors'), path: resolve(cwd, file) }
  })
  return { masks, active: masks[0]?.name ?? null }
}

const nodeState = z.object({
  desired: heartbeatResponse.shape.desired.pick({ active: true, previous: true }),
})

/** Returns the active and the previous mask of the service on this machine, as far as its node has their files. */
function masksOfHome({ env, root }: Terminal): MeasuredMasks {
  const home = env.COPAL_HOME || join(root, '.copal')
  const { active, previous } = desiredMasks(join(home, 'node-state.json'))
  const masks = [active, previous].flatMap((mask) => {
    const file = mask && join(home, 'masks', `${mask.sha256}.safetensors`)
    return mask && file && existsSync(file) ? [{ name: formatMask(mask.version), path: file }] : []
  })
  return { masks, active: active && formatMask(active.version) }
}

/** Reads the state of a node. A missing one, or a damaged one, which the node replaces, names no mask. */
function desiredMasks(path: string): z.output<typeof nodeState>['desired'] {
  const none = { active: null, previous: null }
  if (!existsSync(path)) return none
  const text = readFileSync(path, 'utf8')
  try {
    return nodeState.parse(JSON.parse(text)).desired
  } catch {
    return none
  }
}

function forPrograms({ machine, model, text, rows, advice }: Report) {
  const front = frontOf(rows)
  return {
    machine,
    model,
    text,
    rows: rows.map((row) => ({
      mask: row.mask,
      precision: row.precision,
      form: row.form,
      bytes: row.bytes,
      tokens_per_second: {
        one_stream: row.oneStream,
        eight_streams: row.eightStreams,
        prefill: row.prefill,
      },
      perplexity: row.perplexity,
      on_front: front.has(row),
      is_current: row === advice.current,
    })),
    advice: advice.sentence,
  }
}

function describe({ machine, model, text, rows, advice }: Report, session: Session): string {
  const front = frontOf(rows)
  const rounds = rows[0]?.oneStream.count ?? 0
  const rate = ({ median }: AdviceRow['prefill']) => median.toFixed(median < 100 ? 1 : 0)
  const table = session.table<AdviceRow>(
    [
      { title: 'MASK', value: ({ mask }) => mask ?? 'dense', shrinks: true },
      { title: 'FORM', value: ({ precision, form }) => [precision, form].filter(Boolean).join(' ') },
      { title: 'BYTES', value: ({ bytes }) => formatBytes(bytes), align: 'right' },
      { title: '1 STREAM', value: ({ oneStream }) => rate(oneStream), align: 'right' },
      { title: '8 STREAMS', value: ({ eightStreams }) => rate(eightStreams), align: 'right' },
      { title: 'PREFILL', value: ({ prefill }) => rate(prefill), align: 'right' },
      { title: 'PERPLEXITY', value: ({ perplexity }) => formatPerplexity(perplexity), align: 'right' },
      {
        title: '',
        value: (row) =>
          [front.has(row) ? 'front' : '', row === advice.current ? 'now' : ''].filter(Boolean).join(', '),
      },
    ],
    rows,
  )
  return (
    `${model} on ${machine}\nTokens per second, medians of ${counted(rounds, 'round')}; perplexity on ${text}.\n\n` +
    `${table}\n\n'front': no other row is at least as good in speed, bytes and perplexity.\n\n${advice.sentence}`
  )
}

function precisions(text: string): Precision[] {
  return splitList(text).map((name) => {
    const known = PRECISIONS.find((precision) => precision === name)
    if (known) return known
    throw new InvalidArgumentError(`'${name}' is none of ${PRECISIONS.join(', ')}.`)
  })
}

function threads(text: string): number {
  const count = positiveNumber(text)
  if (count <= MAX_THREADS) return count
  throw new InvalidArgumentError(`At most ${MAX_THREADS} are expected.`)
}
