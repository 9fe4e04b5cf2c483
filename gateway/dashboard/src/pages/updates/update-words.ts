/** The state of updates, in words. */
import { capitalize, listNames } from '@copal/shared/phrases.ts'
import type { TrialEntry } from '@copal/shared/wire/admin-trials.ts'
import type { TriggersReport } from '@copal/shared/wire/admin-triggers.ts'
import type { UpdateEntry, UpdateState, UpdateTrigger } from '@copal/shared/wire/admin.ts'
import type { DecisionFigure, DecisionVerdict } from '@copal/shared/wire/admin-decisions.ts'
import { isUnjudged, isUnjudgedTime } from '@copal/shared/wire/unjudged-figures.ts'
import { UPDATE_STATES, updateStateWord } from '@copal/shared/wire/update-states.ts'
import type { Tone } from '../../components/tone.ts'
import { maskName, maskNameFirst } from '../../format/mask-names.ts'
import { formatCount, formatLossDifference, formatProgress, formatShare } from '../../format/numbers.ts'
import { endSentence } from '../../format/phrases.ts'
import { timeLeft } from '../../format/times.ts'
import { endOfUpdate, hasEnded, isRejected } from '../../format/words.ts'
import type { StepProgress } from './update-steps.ts'

/** The tones of states in which an update has ended. */
const TONES: Readonly<Partial<Record<UpdateState, Tone>>> = {
  promoted: 'good',
  rolled_back: 'harm',
  failed: 'harm',
  cancelled: 'quiet',
}

/** Names of the triggers, after `started by`. */
export const TRIGGERS: Readonly<Record<UpdateTrigger, string>> = {
  manual: 'an operator',
  volume: 'new text',
  drift: 'drift',
  schedule: 'the schedule',
  own_mask: 'an own mask',
}

/** The tone of a verdict. */
export const VERDICT_TONES: Readonly<Record<DecisionVerdict, Tone>> = {
  passed: 'good',
  failed: 'harm',
  retried: 'quiet',
  done: 'good',
  dry_run: 'quiet',
}

/** The verdict on a figure of a trial; what was not judged is neither within its limit nor beyond it. */
export function verdictOfFigure(figure: DecisionFigure): { word: string; tone: Tone } {
  if (isUnjudged(figure.name) || isUnjudgedTime(figure)) return { word: 'not judged', tone: 'quiet' }
  return figure.passed ? { word: 'within', tone: 'good' } : { word: 'beyond', tone: 'harm' }
}

/** The state of an update as a word with its tone. */
export function stateOfUpdate(update: Pick<UpdateEntry, 'state' | 'error'>): { word: string; tone: Tone } {
  return { word: updateStateWord(update), tone: TONES[update.state] ?? 'busy' }
}

/** The sentence of an update that runs. */
export function runningSentence(update: UpdateEntry, step: StepProgress | undefined): string {
  const { state, domains, job, mask_version: version } = update
  const left = timeLeft(step?.secondsLeft)
  const node = job?.node == null ? '' : ` on ${job.node}`
  const progress =
    state === 'canary' || state === 'promoting' || !step
      ? ''
      : `: ${formatProgress(step.progress)} of this step${left === '' ? '' : `, ${left}`}`
  const ofMask = state === 'canary' ? ' of' : state === 'promoting' ? '' : undefined
  const mask = version === null || ofMask === undefined ? '' : `${ofMask} ${maskName(version)}`
  return `The update of ${listNames(domains)} is ${UPDATE_STATES[state]}${mask}${node}${progress}.`
}

/** The sentence of an update in its canary: its share of the conversations, and the evidence so far. */
export function canarySentence(trial: TrialEntry, besideVersion: number): string {
  const { mask_version: version, share, evidence } = trial
  const serves = `${maskNameFirst(version)} answers ${formatShare(share)} of the conversations beside ${maskName(besideVersion)}.`
  if (!evidence || evidence.gap === null) return `${serves} Nothing was scored under both masks yet.`
  const { gap, lower, upper, tokens } = evidence
  return `${serves} So far its perplexity differs by ${formatLossDifference(gap)}, between ${formatLossDifference(lower)} and ${formatLossDifference(upper)}, over ${formatCount(tokens)} tokens.`
}

/** The sentence of an update that has ended: the result, its reason, and the gain. */
export function endedSentence(update: UpdateEntry): string {
  const { state, mask_version: version, parent_version: parent, domains, own_domain: own } = update
  const learned = listNames(domains)
  const mask = version === null ? '' : maskNameFirst(version)
  const before = parent === null ? 'the mask before' : maskName(parent)
  const reason = reasonOfEnd(update)
  switch (state) {
    case 'promoted':
      return own == null
        ? `${mask} was promoted; it was selected from ${learned}.${gainOf(update)}`
        : `${mask} serves ${own} alone, beside the shared mask.`
    case 'rolled_back':
      return `${mask} was rolled back to ${before}, and what it learned of ${learned} does not count.${reason}`
    case 'cancelled':
      return `The update of ${learned} was cancelled; ${before} stayed in use.`
    default:
      return isRejected(update)
        ? `${mask} ${endOfUpdate(update)}, so ${before} stayed in use.${reason}`
        : `The update of ${learned} failed: ${endSentence(update.error?.message ?? 'no reason is known')}`
  }
}

/** The reason of the last failed decision, without the words that the sentence has already. */
function reasonOfEnd({ decisions }: UpdateEntry): string {
  const failed = decisions?.findLast(({ verdict, kind }) => verdict === 'failed' || kind === 'roll_back')
  if (!failed) return ''
  const reason = failed.reason.replace(/^Rolled back: /, '')
  return ` ${endSentence(capitalize(reason))}`
}

/** The gain: the change of perplexity over all domains that the gate measured. */
function gainOf({ decisions, parent_version: parent }: UpdateEntry): string {
  const gate = decisions?.findLast(({ kind }) => kind === 'gate')
  const value = gate?.figures.find(({ name }) => name === 'perplexity / parent, weighted')?.value
  if (value == null) return ''
  const change = value - 1
  return ` Perplexity over all domains ${change <= 0 ? 'fell' : 'rose'} by ${formatShare(Math.abs(change))} against ${maskName(parent ?? 0)}.`
}

/** The sentence of the next update that starts by itself, and of the reason why it waits. */
export function nextSentence(
  triggers: Pick<TriggersReport, 'enabled' | 'dry_run' | 'next_domains' | 'waits_for'>,
  isRunning: boolean,
): string {
  if (!triggers.enabled) return 'Updates start by hand only: the triggers are off.'
  const dry = triggers.dry_run ? ' This is a dry run: it is only noted.' : ''
  if (isRunning) return `The next one waits for it.${dry}`
  if (triggers.next_domains.length === 0) return `No domain is due.${dry}`
  const due = `${listNames(triggers.next_domains)} ${triggers.next_domains.length === 1 ? 'is' : 'are'} due`
  return triggers.waits_for === null
    ? `${due}; the update starts within a minute.${dry}`
    : `${due}. ${endSentence(triggers.waits_for)}${dry}`
}

/** The newest update that has ended, of a list with the newest first. */
export function lastEnded(updates: readonly UpdateEntry[]): UpdateEntry | undefined {
  return updates.find(hasEnded)
}
