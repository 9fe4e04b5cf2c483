import type { TriggerDomain } from '@copal/shared/wire/admin-triggers.ts'
import type { UpdateEntry } from '@copal/shared/wire/admin.ts'
import { Loaded } from '../../components/loaded.tsx'
import { MaskLink } from '../../components/mask-link.tsx'
import { LoadedTogether } from '../../components/loaded-together.tsx'
import { Empty, Skeleton } from '../../components/notices.tsx'
import { LossDifference, Num } from '../../components/num.tsx'
import { Page, Section, sentenceWhenLoaded } from '../../components/page.tsx'
import { Status } from '../../components/status.tsx'
import { Table, type Column } from '../../components/table.tsx'
import { Time } from '../../components/time.tsx'
import { useResource } from '../../data/data.tsx'
import * as endpoints from '../../data/endpoints.ts'
import { useNow } from '../../data/now.ts'
import { hasCome } from '../../data/resource.ts'
import { formatCount, formatDuration, formatShare } from '../../format/numbers.ts'
import { hasEnded } from '../../format/words.ts'
import { Link } from '../../navigation/link.tsx'
import { useModel } from '../../navigation/navigation.tsx'
import { paths } from '../../navigation/routes.ts'
import { useSession } from '../../session/session.tsx'
import { StartUpdateButton } from './start-update.tsx'
import { stepProgress } from './update-steps.ts'
import { UpdateSteps } from './update-stepper.tsx'
import {
  endedSentence,
  lastEnded,
  nextSentence,
  runningSentence,
  stateOfUpdate,
  TRIGGERS,
} from './update-words.ts'

/** Running, next and earlier updates. */
export function UpdatesPage() {
  const model = useModel()
  const updates = useResource(endpoints.updates(), 10_000)
  const triggers = useResource(endpoints.triggers(model), 30_000)
  const { may_change: mayChange } = useSession()
  const own = updates.value?.data.filter((update) => model === undefined || update.model === model)
  const runningId = own?.find((update) => !hasEnded(update))?.id
  const running = useResource(runningId === undefined ? undefined : endpoints.update(runningId), 3_000)
  const now = useNow(runningId === undefined ? 60_000 : 5_000)
  const current = running.value ?? own?.find(({ id }) => id === runningId)
  const last = own && lastEnded(own)
  // Sections are drawn at once, so that none of them moves when another one comes.
  const isPlaced = hasCome(updates) && hasCome(triggers) && (runningId === undefined || hasCome(running))
  return (
    <Page
      title="Updates"
      sentence={sentenceWhenLoaded(isPlaced ? updates : { ...updates, value: undefined }, () => (
        <p>
          {current
            ? runningSentence(current, stepProgress(current, now))
            : last
              ? `Nothing runs. ${endedSentence(last)}`
              : 'There was no update yet.'}{' '}
          {triggers.value && nextSentence(triggers.value, current !== undefined)}
        </p>
      ))}
      actions={
        <>
          <Link class="button" to={paths.policy()}>
            Policy
          </Link>
          {mayChange && <StartUpdateButton isRunning={runningId !== undefined} model={model} />}
        </>
      }
    >
      {!isPlaced ? (
        <div class="page-place">
          <Skeleton lines={12} />
        </div>
      ) : (
        <LoadedTogether resources={[updates, triggers]}>
          {current && (
            <Section
              title="Running"
              note={<Link to={paths.update(current.id)}>Open, cancel, or see its figures</Link>}
            >
              <UpdateSteps update={current} />
            </Section>
          )}
          <Section title="All updates">
            <Loaded resource={updates}>
              {() => (
                <Table
                  caption="Updates, newest first"
                  columns={COLUMNS}
                  rows={own ?? []}
                  rowKey={({ id }) => id}
                  filter
                  csv="copal-updates"
                  limit={25}
                  empty={<NoUpdates />}
                />
              )}
            </Loaded>
          </Section>
          <Section title="Due next" note="Domains by what an update is expected to gain">
            <Loaded resource={triggers}>
              {({ domains }) => (
                <Table
                  caption="Domains by expected gain"
                  columns={DUE_COLUMNS}
                  rows={domains}
                  rowKey={({ domain }) => domain}
                  limit={12}
                  empty={<p class="soft">No domain has text yet.</p>}
                />
              )}
            </Loaded>
          </Section>
        </LoadedTogether>
      )}
    </Page>
  )
}

const COLUMNS: readonly Column<UpdateEntry>[] = [
  {
    key: 'started',
    title: 'Started',
    phone: 'first',
    value: ({ created_at: at }) => at,
    cell: ({ id, created_at: at }) => (
      <Link to={paths.update(id)}>
        <Time at={at} as="clock" />
      </Link>
    ),
  },
  {
    key: 'state',
    title: 'State',
    phone: 'first',
    align: 'start',
    value: (update) => stateOfUpdate(update).word,
    cell: (update) => <Status tone={stateOfUpdate(update).tone}>{stateOfUpdate(update).word}</Status>,
  },
  {
    key: 'domains',
    title: 'Domains',
    value: ({ domains }) => domains.join(', '),
    cell: ({ domains }) => (
      <span class="names">
        {domains.map((name) => (
          <Link key={name} to={paths.domain(name)}>
            {name}
          </Link>
        ))}
      </span>
    ),
  },
  {
    key: 'trigger',
    title: 'Started by',
    value: ({ trigger, trigger_reason: reason }) => `${TRIGGERS[trigger]} ${reason}`.trim(),
    cell: ({ trigger, trigger_reason: reason }) => (
      <span title={reason === '' ? undefined : reason}>{TRIGGERS[trigger]}</span>
    ),
  },
  {
    key: 'mask',
    title: 'Mask',
    align: 'end',
    value: ({ mask_version: version }) => version,
    cell: ({ mask_version: version }) => <MaskLink version={version} />,
  },
  {
    key: 'took',
    title: 'Took',
    align: 'end',
    phone: 'none',
    value: secondsTaken,
    cell: (update) => <Num>{formatDuration(secondsTaken(update))}</Num>,
  },
]

function secondsTaken({ created_at: from, finished_at: to }: UpdateEntry): number | null {
  return to === null ? null : (Date.parse(to) - Date.parse(from)) / 1000
}

const DUE_COLUMNS: readonly Column<TriggerDomain>[] = [
  {
    key: 'domain',
    title: 'Domain',
    phone: 'first',
    value: ({ domain }) => domain,
    cell: ({ domain }) => <Link to={paths.domain(domain)}>{domain}</Link>,
  },
  {
    key: 'due',
    title: 'Due',
    phone: 'first',
    value: ({ due }) => (due === null ? 'not yet' : `by ${TRIGGERS[due]}`),
    cell: ({ due }) =>
      due === null ? <Status tone="quiet">not yet</Status> : <Status tone="busy">by {TRIGGERS[due]}</Status>,
  },
  {
    key: 'share',
    title: 'Traffic',
    align: 'end',
    hint: 'Share of the tokens under the active mask and the one before, of the domains of this table.',
    value: ({ traffic_share: share }) => share,
    cell: ({ traffic_share: share }) => <Num>{formatShare(share)}</Num>,
  },
  {
    key: 'gap',
    title: 'Cost of pruning',
    align: 'end',
    hint: 'Perplexity of its traffic above that of the dense weights.',
    value: ({ gap }) => gap,
    cell: ({ gap }) => <LossDifference nats={gap} missing="–" />,
  },
  {
    key: 'segments',
    title: 'New segments',
    align: 'end',
    hint: 'Segments of 512 tokens that no update has counted.',
    value: ({ new_segments: segments }) => segments,
    cell: ({ new_segments: segments }) => <Num>{formatCount(segments)}</Num>,
  },
  {
    key: 'reason',
    title: 'Why',
    value: ({ reason }) => reason,
    cell: ({ reason }) => <span class="reason">{reason}</span>,
  },
]

function NoUpdates() {
  return (
    <Empty title="No update has run yet.">
      <p>
        One starts by itself when a domain has enough new text or drifts. Send requests, or import texts of a
        domain and start one here.
      </p>
    </Empty>
  )
}
