import type { UpdateEntry } from '@copal/shared/wire/admin.ts'
import { Stepper, type Step } from '../../components/stepper.tsx'
import { formatDuration } from '../../format/numbers.ts'
import { timeLeft, withoutTimeLeft } from '../../format/times.ts'
import { hasEnded } from '../../format/words.ts'
import { useResource } from '../../data/data.tsx'
import * as endpoints from '../../data/endpoints.ts'
import { useNow } from '../../data/now.ts'
import { stepProgress, stepsLeftOut, stepsOf } from './update-steps.ts'

/** The steps of an update with their times; the one that runs tells its progress and the time left. */
export function UpdateSteps({ update, isWatched = false }: { update: UpdateEntry; isWatched?: boolean }) {
  const isRunning = !hasEnded(update)
  const now = useNow(isRunning || isWatched ? 1_000 : 60_000)
  const policy = useResource(isRunning ? endpoints.policy(update.model) : undefined)
  const status = useResource(isRunning ? endpoints.status() : undefined, 10_000)
  const leftOut =
    policy.value && status.value && stepsLeftOut(update, policy.value.policy, status.value.nodes)
  const working = stepProgress(update, now)
  const steps = stepsOf(update, now, { isWatched, leftOut })
  return (
    <div class="stepper-wide">
      <Stepper
        label={`Steps of update ${update.id}`}
        steps={steps.map(({ label, state, endedAtMs, durationMs, note }): Step => {
          const isWorking = state === 'running' && working !== undefined
          const notes = [
            durationMs === undefined || state === 'skipped'
              ? ''
              : `${state === 'running' ? 'for' : 'took'} ${formatDuration(durationMs / 1000)}`,
            note ?? '',
            isWorking ? timeLeft(working.secondsLeft) : '',
            isWorking ? withoutTimeLeft(update.job?.message ?? '') : '',
          ].filter((part) => part !== '')
          return {
            label,
            state,
            at: endedAtMs === undefined || state === 'skipped' ? null : new Date(endedAtMs).toISOString(),
            note: notes.length > 0 ? notes.join(' · ') : undefined,
            progress: isWorking ? working.progress : undefined,
          }
        })}
      />
    </div>
  )
}
