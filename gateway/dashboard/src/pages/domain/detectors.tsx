import type { DetectorEntry } from '@copal/shared/wire/admin-alerts.ts'
import { Loaded } from '../../components/loaded.tsx'
import { Section } from '../../components/page.tsx'
import { Status } from '../../components/status.tsx'
import { Table, type Column } from '../../components/table.tsx'
import { Time } from '../../components/time.tsx'
import { useResource } from '../../data/data.tsx'
import { alerts, detectors } from '../../data/endpoints.ts'
import { formatCount, formatNumber, formatShare } from '../../format/numbers.ts'
import { ALERT_KINDS } from '../../format/words.ts'
import { useModel } from '../../navigation/navigation.tsx'

const NAMES: Readonly<Record<DetectorEntry['detector'], string>> = {
  page_hinkley: 'Page-Hinkley',
  adwin: 'ADWIN',
}

const COLUMNS: readonly Column<DetectorEntry>[] = [
  {
    key: 'signal',
    title: 'Watches',
    value: (entry) => watched(entry),
    cell: (entry) => <span class="num">{watched(entry)}</span>,
    phone: 'first',
    hint: 'Traffic: the loss under dense weights. Cost: the loss above them, under the mask.',
  },
  {
    key: 'detector',
    title: 'Detector',
    value: ({ detector }) => NAMES[detector],
    cell: ({ detector }) => <span class="num">{NAMES[detector]}</span>,
    phone: 'first',
  },
  {
    key: 'statistic',
    title: 'Statistic',
    value: (entry) => entry.statistic / entry.threshold,
    cell: (entry) => (
      <span
        class="detector-level"
        title={`${formatNumber(entry.statistic)}; it alarms above ${formatNumber(entry.threshold)}`}
      >
        <meter
          class="meter"
          min={0}
          max={1}
          value={Math.max(0, Math.min(1, entry.statistic / entry.threshold))}
          aria-label={`${formatShare(entry.statistic / entry.threshold)} of the threshold`}
        />
        <span class="num">
          {formatNumber(entry.statistic)} of {formatNumber(entry.threshold)}
        </span>
      </span>
    ),
    phone: 'none',
  },
  {
    key: 'observations',
    title: 'Read',
    value: ({ observations }) => observations,
    cell: ({ observations }) => formatCount(observations),
    align: 'end',
    hint: 'Scored requests since it was started anew',
  },
  {
    key: 'alarm',
    title: 'Last alarm',
    value: ({ alarmed_at: at }) => at,
    cell: ({ alarmed_at: at, statistic, threshold }) =>
      statistic > threshold ? (
        <Status tone="harm">
          <Time at={at} missing="now" />
        </Status>
      ) : (
        <Time at={at} missing="none" />
      ),
  },
]

function watched({ signal, mask_version: version }: DetectorEntry): string {
  return signal === 'dense' ? 'traffic' : `cost of mask ${version}`
}

/** Alerts that are shown: those that hold, then the newest. */
const SHOWN_ALERTS = 5

/** The detectors that read the scores of a domain, and its alerts. */
export function Detectors({ name }: { name: string }) {
  const resource = useResource(detectors(useModel()), 60_000)
  return (
    <Section title="Detectors">
      <Loaded resource={resource}>
        {({ detectors: all }) => (
          <Table
            caption={`Detectors of ${name}`}
            columns={COLUMNS}
            rows={all.filter(({ domain }) => domain === name)}
            rowKey={({ signal, detector, mask_version: version }) => `${signal} ${detector} ${version}`}
            empty={<p class="soft">No detector has read a score of it yet.</p>}
          />
        )}
      </Loaded>
      <DomainAlerts name={name} />
    </Section>
  )
}

/** The alerts of a domain, those that hold first. */
function DomainAlerts({ name }: { name: string }) {
  const { value } = useResource(alerts(useModel()), 60_000)
  const own = (value?.alerts ?? []).filter(({ domain }) => domain === name).slice(0, SHOWN_ALERTS)
  return (
    <ul class="alerts">
      {own.map(({ id, kind, message, raised_at: raisedAt, ended_at: endedAt }) => (
        <li key={id} class="entry">
          <p class="entry-line">
            <Status tone={endedAt === null ? 'harm' : 'quiet'}>{ALERT_KINDS[kind]}</Status>
            <span class="soft entry-end">
              <Time at={raisedAt} />
              {endedAt !== null && (
                <>
                  , ended <Time at={endedAt} />
                </>
              )}
            </span>
          </p>
          <p class={endedAt === null ? undefined : 'soft'}>{message}</p>
        </li>
      ))}
    </ul>
  )
}
