import { InvalidArgumentError, type Command } from 'commander'
import {
  MAX_CANARY_SHARE,
  type StartTrial,
  type TrialEntry,
  type TrialNodes,
} from '@copal/shared/wire/admin-trials.ts'
import { counted } from '@copal/gpu-node/platform/quantities.ts'

/** Options that {@link addTrialOptions} adds. */
export interface TrialOptions {
  share?: number
  end?: boolean
  model?: string
  json?: boolean
}

/** Adds the options of a trial (canary or shadow) to a command. */
export function addTrialOptions(command: Command, of: 'conversations' | 'requests'): Command {
  return command
    .option('--share <share>', `share of the ${of}, like 10% or 0.1`, (text) =>
      parseShare(text, of === 'conversations' ? MAX_CANARY_SHARE : 1),
    )
    .option('--end', 'end the trial')
    .option('--model <id>', 'which model, if the fleet serves several')
    .option('--json', 'print JSON')
}

/** Returns the change that the options ask for; undefined when only a report is wanted. */
export function trialChange(
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

function parseShare(text: string, max: number): number {
  const match = /^(\d{1,3}(?:\.\d{1,6})?)(%?)$/.exec(text)
  const share = match ? Number(match[1]) / (match[2] ? 100 : 1) : 0
  if (share > 0 && share <= max) return share
  const reason = max < 1 ? ': a canary is compared with the conversations that the active mask answers' : ''
  throw new InvalidArgumentError(
    `A share like 10% or 0.1 is expected, above 0 and at most ${Math.round(max * 100)}%${reason}.`,
  )
}
