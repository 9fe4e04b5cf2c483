import { InvalidArgumentError, type Command } from 'commander'
import type { z } from 'zod'
import {
  endedTrial,
  type StartTrial,
  type TrialEntry,
  type TrialNodes,
} from '@copal/shared/wire/admin-trials.ts'
import { counted } from '@copal/gpu-node/platform/quantities.ts'
import type { Session } from '../api/session.ts'
import { modelQuery, parseMask } from '../input/mask-argument.ts'

/** A way to try a mask beside the active one. */
interface Trial<Report> {
  /** Name of the command, and of the path of the API. */
  name: 'canary' | 'shadow'
  description: string
  /** The traffic of which the trial takes a share, and the largest share. */
  share: { of: string; max: number }
  /** Text after the options. */
  help: string
  report: z.ZodType<Report>
  describe: (report: Report, session: Session) => string
  /** Describes the end of a trial of a model. */
  describeEnd: (model: string) => string
}

interface TrialOptions {
  share?: number
  end?: boolean
  model?: string
  json?: boolean
}

/** Adds a command that starts, shows and ends trials of one kind. */
export function addTrial<Report>(program: Command, session: Session, trial: Trial<Report>): void {
  program
    .command(trial.name)
    .description(trial.description)
    .argument(
      '[mask]',
      'the mask to start with, like 5 or m5, or dense; without it, report on the running trial',
      parseMask,
    )
    .option('--share <share>', `share of the ${trial.share.of}, like 10% or 0.1`, (text) =>
      parseShare(text, trial.share.max),
    )
    .option('--end', 'end the trial')
    .option('--model <id>', 'which model, if the fleet serves several')
    .option('--json', 'print JSON')
    .addHelpText('after', trial.help)
    .action(async (mask: number | undefined, options: TrialOptions, command: Command) => {
      const change = trialChange(mask, options, command)
      const client = session.client()
      const ofModel = `/${trial.name}${modelQuery(options.model)}`
      if (change === 'end') {
        const gone = await client.admin('DELETE', ofModel, endedTrial)
        session.print(options.json, gone, () =>
          gone.ended ? trial.describeEnd(gone.model) : `No ${trial.name} was running.`,
        )
        return
      }
      const report = change
        ? await client.admin('PUT', `/${trial.name}`, trial.report, change)
        : await client.admin('GET', ofModel, trial.report)
      session.print(options.json, report, () => trial.describe(report, session))
    })
}

/** Describes which nodes have loaded the mask of a trial, and why others have not. */
export function describeNodes({ ready, alive, errors }: TrialNodes): string[] {
  const failures = errors.map(({ node, message }) => `Node '${node}' cannot load it: ${message}`)
  return ready === alive && alive > 0
    ? failures
    : [`${ready} of ${counted(alive, 'node')} ${alive === 1 ? 'has' : 'have'} loaded it.`, ...failures]
}

/** Describes what a canary of an update, or a watch, has shown so far. */
export function describeEvidence({ evidence }: Pick<TrialEntry, 'evidence'>): string {
  if (!evidence || evidence.requests === 0 || evidence.gap === null)
    return 'No request was scored under both masks yet.'
  const { requests, gap, lower, upper } = evidence
  const bounds = [lower, upper].map((bound) => bound?.toFixed(3) ?? '-').join(' to ')
  const side = gap < 0 ? 'below' : 'above'
  return `Loss ${Math.abs(gap).toFixed(3)} nats a token ${side} the other mask (${bounds}), on ${counted(requests, 'request')}.`
}

/** Returns the change that the options ask for; undefined when only a report is wanted. */
function trialChange(
  mask: number | undefined,
  { share, end, model }: TrialOptions,
  command: Command,
): StartTrial | 'end' | undefined {
  if (end) {
    if (mask !== undefined || share !== undefined)
      command.error("error: '--end' takes neither a mask nor a share")
    return 'end'
  }
  if (mask === undefined && share === undefined) return undefined
  if (mask === undefined) return command.error("error: '--share' needs a mask")
  if (share === undefined) return command.error("error: a mask needs '--share', like '--share 10%'")
  return { mask_version: mask, share, ...(model === undefined ? {} : { model }) }
}

function parseShare(text: string, max: number): number {
  const match = /^(\d{1,3}(?:\.\d{1,6})?)(%?)$/.exec(text)
  const share = match ? Number(match[1]) / (match[2] ? 100 : 1) : 0
  if (share > 0 && share <= max) return share
  const reason = max < 1 ? ': a canary is compared with the conversations that the active mask answers' : ''
  throw new InvalidArgumentError(
    `A share like 10% or 0.1 is expected, above 0 and at most ${Math.round(max * 100)}%${reason}.`,
  )
}
