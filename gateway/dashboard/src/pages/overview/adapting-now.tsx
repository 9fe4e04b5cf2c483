import { listNames } from '@copal/shared/phrases.ts'
import type { AlertEntry } from '@copal/shared/wire/admin-alerts.ts'
import type { OverviewReport } from '@copal/shared/wire/admin-overview.ts'
import type { UpdateEntry } from '@copal/shared/wire/admin.ts'
import { UPDATE_STATES } from '@copal/shared/wire/update-states.ts'
import { Section } from '../../components/page.tsx'
import { Status } from '../../components/status.tsx'
import { ProgressBar } from '../../components/stepper.tsx'
import { Time } from '../../components/time.tsx'
import { LossDifference } from '../../components/num.tsx'
import { formatCount, formatProgress, formatShare } from '../../format/numbers.ts'
import { withTimeLeft } from '../../format/times.ts'
import { ALERT_KINDS, endOfUpdate, hasEnded } from '../../format/words.ts'
import { Link } from '../../navigation/link.tsx'
import { paths } from '../../navigation/routes.ts'

/** The updates that run, with their progress, and the canary. */
export function AdaptingNow({ overview }: { overview: OverviewReport }) {
  const { updates, canary } = overview
  const running = updates.filter((update) => !hasEnded(update))
  const last = updates.find(hasEnded)
  return (
    <Section title="Adapting now" class="min-8">
      {running.map((update) => (
        <RunningUpdate key={update.id} update={update} />
      ))}
      {canary?.canary && <Canary {...canary.canary} />}
      {running.length === 0 && !canary?.canary && (
        <p>
          Nothing is adapting.{' '}
          {last && (
            <>
              The last <Link to={paths.update(last.id)}>update of {listNames(last.domains)}</Link>{' '}
              {endOfUpdate(last)} <Time at={last.finished_at ?? last.created_at} end="." />
            </>
          )}
        </p>
      )}
    </Section>
  )
}

function RunningUpdate({ update }: { update: UpdateEntry }) {
  const { id, domains, state, progress, message } = update
  const name = `Update of ${listNames(domains)}`
  return (
    <div class="entry">
      <p class="entry-line">
        <Link to={paths.update(id)}>{name}</Link>
        <Status tone="busy">{UPDATE_STATES[state]}</Status>
        <span class="soft entry-end">{formatProgress(progress)}</span>
      </p>
      <ProgressBar value={progress} label={name} />
      <p class="soft">{withTimeLeft(message)}</p>
    </div>
  )
}

function Canary({
  mask_version: version,
  share,
  since,
  evidence,
  update_id: update,
}: NonNullable<NonNullable<OverviewReport['canary']>['canary']>) {
  return (
    <div class="entry">
      <p class="entry-line">
        <Link to={paths.mask(version)}>Mask {version}</Link>
        <Status tone="busy">canary, {formatShare(share)} of the conversations</Status>
        <span class="soft entry-end">
          since <Time at={since} as="clock" />
        </span>
      </p>
      <p class="soft">
        {update === null ? (
          'An operator started it, and ends it on the page of the mask.'
        ) : evidence && evidence.gap !== null ? (
          <>
            Gap to the active mask{' '}
            <LossDifference nats={evidence.gap} lower={evidence.lower} upper={evidence.upper} /> after{' '}
            {formatCount(evidence.tokens)} tokens.
          </>
        ) : (
          'Not enough tokens are scored yet.'
        )}
      </p>
    </div>
  )
}

/** The alerts that hold. */
export function Alerts({ alerts }: { alerts: readonly AlertEntry[] }) {
  return (
    <Section title="Alerts" class="min-8">
      {alerts.length === 0 && (
        <p>
          <Status tone="good">No alert is active.</Status>
        </p>
      )}
      <ul>
        {alerts.map(({ id, kind, domain, node, message, raised_at: raisedAt }) => (
          <li key={id} class="entry">
            <p class="entry-line">
              <Status tone="harm">{ALERT_KINDS[kind]}</Status>
              {domain !== null && <Link to={paths.domain(domain)}>{domain}</Link>}
              {node !== null && <Link to={paths.nodes()}>{node}</Link>}
              <span class="soft entry-end">
                <Time at={raisedAt} />
              </span>
            </p>
            <p>{message}</p>
          </li>
        ))}
      </ul>
    </Section>
  )
}
