import type { UpdateEntry } from '@copal/shared/wire/admin.ts'
import { Stepper, type Step } from '../../components/stepper.tsx'
import { formatDuration } from '../../format/numbers.ts'
import { timeLeft, withoutTimeLeft } from '../../format/times.ts'
import { hasEnded } from '../../format/words.ts'
import { useNow } from '../../data/now.ts'
import { jobSecondsLeft, runningJob, stepsOf } from './update-steps.ts'

const STATES = {
  done: 'done',
  running: 'running',
  failed: 'failed',
  skipped: 'skipped',
  ended: 'ended',
  ahead: 'waiting',
} as const

/** The steps of an update with their times; the one that runs tells its progress and the time left. */
export function UpdateSteps({ update, isWatched = false }: { update: UpdateEntry; isWatched?: boolean }) {
  const now = useNow(hasEnded(update) && !isWatched ? 60_000 : 1_000)
  const job = runningJob(update)
  const steps = stepsOf(update, isWatched, now)
  return (
    <div class="stepper-wide">
      <Stepper
        label={`Steps of update ${update.id}`}
        steps={steps.map(({ label, state, endedAtMs, durationMs, note }): Step => {
          const isWorking = state === 'running' && job !== undefined
          const notes = [
            durationMs === undefined || state === 'skipped'
              ? ''
              : `${state === 'running' ? 'for ' : ''}${formatDuration(durationMs / 1000)}`,
            note ?? '',
            isWorking ? timeLeft(jobSecondsLeft(update, now)) : '',
            isWorking ? withoutTimeLeft(update.job?.message ?? '') : '',
          ].filter((part) => part !== '')
          return {
            label,
            state: STATES[state],
            at: endedAtMs === undefined || state === 'skipped' ? null : new Date(endedAtMs).toISOString(),
            note: notes.length > 0 ? notes.join(' · ') : undefined,
            progress: isWorking ? job.progress : undefined,
          }
        })}
      />
    </div>
  )
}
