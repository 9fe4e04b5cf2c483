import { useMemo } from 'preact/hooks'
import type { TrialCourse } from '@copal/shared/wire/admin-trial-course.ts'
import type { TrialEntry, WatchEntry } from '@copal/shared/wire/admin-trials.ts'
import { ConfidenceSequence } from '../../charts/confidence-sequence.tsx'
import { Section } from '../../components/page.tsx'
import { ProgressBar } from '../../components/stepper.tsx'
import { Time } from '../../components/time.tsx'
import { useNow } from '../../data/now.ts'
import { formatCount, formatShare } from '../../format/numbers.ts'
import { maskName } from '../../format/mask-names.ts'
import { closingPoints, trialSentence } from './trial-words.ts'
import type { CanaryPolicy } from './update-endpoints.ts'

/** The titles of the kinds of trials. */
export const TRIAL_TITLES = { canary: 'Canary', watch: 'Watch' } as const

interface TrialSectionProps {
  course: TrialCourse
  /** The running trial of the model, if it is this one. */
  trial: TrialEntry | WatchEntry | null
  policy: CanaryPolicy | undefined
}

/** A canary or a watch: its confidence sequence against the bound, and the tokens and time that it still needs. */
export function TrialSection({ course, trial, policy }: TrialSectionProps) {
  const { kind, points, limit, running, min_tokens: minTokens } = course
  // The chart is drawn anew when its points change.
  const shown = useMemo(() => closingPoints({ points, limit }), [points, limit])
  const scored = points.at(-1)?.tokens ?? 0
  const share = trial && 'share' in trial ? `${formatShare(trial.share)} of conversations` : undefined
  return (
    <Section title={TRIAL_TITLES[kind]} note={running ? share : 'ended'}>
      <p class="reason">{trialSentence(course)}</p>
      {running && minTokens !== null && minTokens > 0 && scored < minTokens && (
        <div class="trial-progress">
          <ProgressBar value={Math.min(1, scored / minTokens)} label="Tokens scored of those needed" />
          <span class="soft num">
            {formatCount(scored)} of {formatCount(minTokens)} tokens that are needed for a proof
          </span>
        </div>
      )}
      {running && trial && <TrialTimes trial={trial} policy={policy} />}
      <ConfidenceSequence
        title={`Cost over ${maskName(course.beside_version)}, change of perplexity`}
        summary={trialSentence(course)}
        points={shown}
        limit={limit}
      />
    </Section>
  )
}

/** When a trial ends at the earliest and at the latest. */
function TrialTimes({ trial, policy }: { trial: TrialEntry | WatchEntry; policy: CanaryPolicy | undefined }) {
  const now = useNow(15_000)
  const sinceMs = Date.parse(trial.since)
  if ('until' in trial)
    return (
      <p class="soft">
        Watched since <Time at={trial.since} as="clock" />, until <Time at={trial.until} as="clock" end="." />
      </p>
    )
  if (!policy) return null
  const earliest = sinceMs + policy.min_minutes * 60_000
  const latest = sinceMs + policy.max_minutes * 60_000
  return (
    <p class="soft">
      Began <Time at={trial.since} />. Without harm it ends{' '}
      {earliest > now ? (
        <>
          between <Time at={earliest} as="clock" /> and
        </>
      ) : (
        'by'
      )}{' '}
      <Time at={latest} as="clock" end="." />
    </p>
  )
}
