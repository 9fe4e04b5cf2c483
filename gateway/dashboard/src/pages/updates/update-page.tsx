import { listNames } from '@copal/shared/phrases.ts'
import type { MaskEntry, NodeEntry, StatusReport, UpdateEntry } from '@copal/shared/wire/admin.ts'
import { ConfirmButton } from '../../components/confirm-button.tsx'
import { Facts } from '../../components/facts.tsx'
import { Loaded } from '../../components/loaded.tsx'
import { MaskLink } from '../../components/mask-link.tsx'
import { Empty, Skeleton } from '../../components/notices.tsx'
import { Page, Section, sentenceWhenLoaded } from '../../components/page.tsx'
import { Status } from '../../components/status.tsx'
import { Time } from '../../components/time.tsx'
import { useClient, useResource } from '../../data/data.tsx'
import * as endpoints from '../../data/endpoints.ts'
import { useNow } from '../../data/now.ts'
import { maskName } from '../../format/mask-names.ts'
import { hasEnded } from '../../format/words.ts'
import { Link } from '../../navigation/link.tsx'
import type { PathParams } from '../../navigation/routes.ts'
import { useSession } from '../../session/session.tsx'
import { ActivateButton } from '../masks/activate-button.tsx'
import { cancelConsequences, forceConsequences } from './consequences.ts'
import { DecisionLog } from './decision-log.tsx'
import { GateSection } from './gate-section.tsx'
import { TRIAL_TITLES, TrialSection } from './trial-section.tsx'
import { trialCourses } from './update-endpoints.ts'
import { expectedTrials, stepProgress } from './update-steps.ts'
import { UpdateSteps } from './update-stepper.tsx'
import { canarySentence, endedSentence, runningSentence, stateOfUpdate, TRIGGERS } from './update-words.ts'

/** One update: steps, measurements of the gate and the trials, decisions, and the operator's actions. */
export function UpdatePage({ params }: { params: PathParams }) {
  const id = params['id'] ?? ''
  const update = useResource(endpoints.update(id), 3_000)
  const { value } = update
  return (
    <Page
      title={value ? `Update of ${listNames(value.domains)}` : 'Update'}
      above={<Link to="/updates">Updates</Link>}
      sentence={sentenceWhenLoaded(update, (found) => (
        <UpdateSentence update={found} />
      ))}
      actions={value && <UpdateActions update={value} />}
    >
      <Loaded resource={update} missing={<Empty title={`There is no update ${id}.`} />}>
        {(found) => <UpdateBody update={found} />}
      </Loaded>
    </Page>
  )
}

function UpdateSentence({ update }: { update: UpdateEntry }) {
  const now = useNow(hasEnded(update) ? 60_000 : 5_000)
  const status = useResource(endpoints.status(), 10_000)
  const model = status.value?.models.find(({ id }) => id === update.model)
  const canary = model?.canary?.update_id === update.id ? model.canary : undefined
  const watch = model?.watch?.update_id === update.id ? model.watch : undefined
  if (canary) return <p>{canarySentence(canary, update.parent_version ?? 0)}</p>
  if (!hasEnded(update)) return <p>{runningSentence(update, stepProgress(update, now))}</p>
  return (
    <p>
      {endedSentence(update)}
      {watch && (
        <>
          {' '}
          It is watched until <Time at={watch.until} as="clock" />.
        </>
      )}
    </p>
  )
}

function UpdateBody({ update }: { update: UpdateEntry }) {
  const isRunning = !hasEnded(update)
  const status = useResource(endpoints.status(), 10_000)
  const model = status.value?.models.find(({ id }) => id === update.model)
  const watch = model?.watch?.update_id === update.id ? model.watch : null
  const canary = model?.canary?.update_id === update.id ? model.canary : null
  const courses = useResource(
    expectedTrials(update, watch !== null).length > 0 ? trialCourses(update.id) : undefined,
    isRunning || watch ? 15_000 : undefined,
  )
  const drift = useResource(update.mask_version === null ? undefined : endpoints.drift(update.model))
  const limits = useResource(canary ? endpoints.policy(update.model) : undefined)
  const decisions = update.decisions ?? []
  return (
    <>
      <Section title="Steps">
        <UpdateSteps update={update} isWatched={watch !== null} />
      </Section>
      {expectedTrials(update, watch !== null).map((kind) => {
        const course = courses.value?.trials.find((each) => each.kind === kind)
        if (!course)
          return (
            <Section key={kind} title={TRIAL_TITLES[kind]}>
              <div class="trial-place">
                {courses.value ? <p class="soft">Its scores are not known.</p> : <Skeleton lines={8} />}
              </div>
            </Section>
          )
        return (
          <TrialSection
            key={kind}
            course={course}
            trial={course.running ? (kind === 'canary' ? canary : watch) : null}
            policy={limits.value?.policy.canary}
          />
        )
      })}
      <GateSection
        decisions={decisions.filter(({ kind }) => kind === 'gate')}
        parentVersion={update.parent_version}
        r={drift.value?.r}
        isLoading={drift.value === undefined && drift.error === undefined}
      />
      <Section title="Decisions">
        <DecisionLog decisions={decisions} />
      </Section>
      <Section title="About it">
        <Facts facts={factsOf(update)} />
      </Section>
    </>
  )
}

function factsOf(update: UpdateEntry) {
  const { tone, word } = stateOfUpdate(update)
  return [
    { label: 'State', value: <Status tone={tone}>{word}</Status> },
    { label: 'Started', value: <Time at={update.created_at} as="clock" /> },
    { label: 'Started by', value: TRIGGERS[update.trigger], title: update.trigger_reason },
    { label: 'Mask', value: <MaskLink version={update.mask_version} /> },
    { label: 'Parent', value: <MaskLink version={update.parent_version} /> },
    { label: 'Method', value: update.method },
    { label: 'Pattern', value: update.pattern, title: `scope: ${update.scope}` },
    { label: 'Ended', value: <Time at={update.finished_at} as="clock" /> },
  ]
}

/** The operator's actions on an update in its state. */
function UpdateActions({ update }: { update: UpdateEntry }) {
  const { may_change: mayChange } = useSession()
  const status = useResource(endpoints.status(), 10_000)
  const masks = useResource(update.state === 'promoted' ? endpoints.masks(update.model) : undefined, 30_000)
  if (!mayChange) return null
  if (!hasEnded(update)) return <CancelButton update={update} />
  if (update.forceable) return <ForceButton update={update} />
  if (update.state === 'promoted' && status.value && masks.value)
    return <RollBack update={update} status={status.value} masks={masks.value.data} />
  return null
}

function CancelButton({ update }: { update: UpdateEntry }) {
  const client = useClient()
  return (
    <ConfirmButton
      label={update.state === 'canary' ? 'End the canary' : 'Cancel'}
      title={`${update.state === 'canary' ? 'End the canary and cancel' : 'Cancel'} the update of ${listNames(update.domains)}?`}
      consequences={cancelConsequences(update)}
      confirm="Cancel the update"
      act={async () => {
        await client.send('POST', `/admin/updates/${encodeURIComponent(update.id)}/cancel`)
        client.refresh('/admin/')
      }}
      done="The update is cancelled."
    />
  )
}

function ForceButton({ update }: { update: UpdateEntry }) {
  const client = useClient()
  const rejection = update.decisions?.findLast(({ verdict }) => verdict === 'failed')
  const mask = maskName(update.mask_version ?? 0)
  return (
    <ConfirmButton
      label={`Promote ${mask} nevertheless`}
      title={`Promote ${mask} nevertheless?`}
      consequences={forceConsequences(update, rejection)}
      confirm={`Promote ${mask}`}
      reason={{ label: 'Why', minLength: 10 }}
      act={async (reason) => {
        await client.send('POST', `/admin/updates/${encodeURIComponent(update.id)}/force`, { reason })
        client.refresh('/admin/')
      }}
      done={`${mask} is rolling out.`}
    />
  )
}

function RollBack({
  update,
  status,
  masks,
}: {
  update: UpdateEntry
  status: StatusReport
  masks: readonly MaskEntry[]
}) {
  const model = status.models.find(({ id }) => id === update.model)
  if (!model || model.active_version !== update.mask_version) return null
  const nodes: readonly NodeEntry[] = status.nodes
  const to = model.previous_version ?? 0
  return <ActivateButton model={model.id} from={model.active_version} to={to} masks={masks} nodes={nodes} />
}
