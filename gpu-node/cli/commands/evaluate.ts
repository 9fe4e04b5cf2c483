import { Option, type Command } from 'commander'
import { evaluateEvent, type EvaluateEvent } from '@copal/shared/wire/node-calls.ts'
import { withCommands } from '../api/command-wording.ts'
import { UserError } from '@copal/gpu-node/platform/user-error.ts'
import { parseMask } from '../input/mask-argument.ts'
import { createProgressBar } from '../output/progress-bar.ts'
import { counted, formatMask, formatPerplexity } from '@copal/gpu-node/platform/quantities.ts'
import type { Session } from '../api/session.ts'
import { readTextFile } from '../input/text-file.ts'
import { wholeNumber } from '../options/option-parsers.ts'

interface EvaluateOptions {
  json?: boolean
  model?: string
  mask?: number
  dense?: boolean
  window: number
  maxWindows?: number
}

type EvaluateResult = Extract<EvaluateEvent, { type: 'result' }>

export function addEvaluate(program: Command, session: Session): void {
  program
    .command('evaluate')
    .description('measure the perplexity of a text file under a mask')
    .argument('<file>', 'a UTF-8 text file; a file shorter than a window is one window')
    .option('--model <id>', 'which model, if the fleet serves several')
    .option('--mask <version>', 'which mask, like m3 (default: the active one)', parseMask)
    .addOption(new Option('--dense', 'use the dense model').conflicts('mask'))
    .option('--window <tokens>', 'tokens per window; an incomplete last window is dropped', wholeNumber, 1024)
    .option('--max-windows <n>', 'maximum number of windows', wholeNumber)
    .option('--json', 'print JSON')
    .addHelpText(
      'after',
      '\nExamples:\n  npx copal evaluate contracts.txt\n  npx copal evaluate contracts.txt --dense\n  npx copal evaluate contracts.txt --mask m3 --window 512 --json',
    )
    .action(async (file: string, options: EvaluateOptions) => {
      const text = readTextFile(file, session.terminal.cwd)
      const version = options.dense ? 0 : options.mask
      const body = {
        text,
        window_tokens: options.window,
        ...(options.model ? { model: options.model } : {}),
        ...(version === undefined ? {} : { mask_version: version }),
        ...(options.maxWindows === undefined ? {} : { max_windows: options.maxWindows }),
      }
      const result = await follow(session, file, body)
      session.print(options.json, forPrograms(result), () => describe(result))
    })
}

async function follow(session: Session, file: string, body: unknown): Promise<EvaluateResult> {
  const bar = createProgressBar(session.terminal.stderr)
  try {
    for await (const event of session.client().adminLines('/evaluate', evaluateEvent, body)) {
      if (event.type === 'result') return event
      if (event.type === 'error') throw new UserError(event.error.code, withCommands(event.error.message))
      const { windowsDone, windowsTotal } = event
      bar.update(
        `Evaluating ${file}`,
        windowsDone / Math.max(1, windowsTotal),
        windowsTotal === 0 ? 'waiting for the node' : `${windowsDone} of ${counted(windowsTotal, 'window')}`,
      )
    }
  } finally {
    bar.end()
  }
  throw new UserError('stream_broken', 'The evaluation broke off before its result.')
}

function forPrograms(result: EvaluateResult) {
  return {
    mask_version: result.maskVersion,
    perplexity: result.perplexity,
    nll_mean: result.nllMean,
    tokens: result.tokens,
    windows: result.windows,
  }
}

function describe(result: EvaluateResult): string {
  const { maskVersion, perplexity, nllMean, tokens, windows } = result
  return (
    `${formatMask(maskVersion)}: perplexity ${formatPerplexity(perplexity)} ` +
    `(${nllMean.toFixed(4)} nats per token, ${counted(tokens, 'token')} in ${counted(windows, 'window')})`
  )
}
