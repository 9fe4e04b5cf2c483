import type { RecentDecision } from '@copal/shared/wire/admin-overview.ts'
import { Folded } from '../../components/folded.tsx'
import { Section } from '../../components/page.tsx'
import { Status } from '../../components/status.tsx'
import { Time } from '../../components/time.tsx'
import type { Tone } from '../../components/tone.ts'
import { DECISION_KINDS, verdictOf } from '../../format/words.ts'
import { Link } from '../../navigation/link.tsx'
import { paths } from '../../navigation/routes.ts'

/** Number of decisions that are shown; the page of updates has all. */
const SHOWN = 10

/** Recent decisions with their reasons, newest first. */
export function Decisions({ decisions }: { decisions: readonly RecentDecision[] }) {
  return (
    <Section title="Decisions" note="newest first" actions={<Link to="/updates">All updates</Link>}>
      {decisions.length === 0 && <p class="soft">Nothing was decided yet.</p>}
      <ol class="log">
        {decisions.slice(0, SHOWN).map((decision) => (
          <Decision
            key={`${decision.created_at} ${decision.kind} ${decision.mask_version}`}
            decision={decision}
          />
        ))}
      </ol>
    </Section>
  )
}

function Decision({ decision }: { decision: RecentDecision }) {
  const { kind, verdict, reason, mask_version: version, update, created_at: createdAt, actor } = decision
  const words = isReturn(decision)
    ? 'Mask returned'
    : `${DECISION_KINDS[kind]}${verdict === 'done' ? '' : ` ${verdictOf(decision)}`}`
  return (
    <li>
      <span class="log-time soft">
        <Time at={createdAt} />
      </span>
      <div>
        <p class="entry-line">
          <Status tone={toneOf(decision)}>{words}</Status>
          {version !== null && version !== 0 && <Link to={paths.mask(version)}>mask {version}</Link>}
          {actor !== 'copal' && <span class="soft">by {actor}</span>}
          {update !== null && (
            <span class="entry-end">
              <Link to={paths.update(update)} label={`why: ${words}`}>
                why
              </Link>
            </span>
          )}
        </p>
        <Folded text={reason} />
      </div>
    </li>
  )
}

/** Whether an operator went from the dense weights back to a mask, which the API calls a roll-back too. */
function isReturn({ kind, mask_version: left }: RecentDecision): boolean {
  return kind === 'roll_back' && left === 0
}

function toneOf(decision: RecentDecision): Tone {
  const { kind, verdict } = decision
  if (isReturn(decision)) return 'quiet'
  if (verdict === 'failed' || kind === 'roll_back') return 'harm'
  if (verdict === 'passed' || kind === 'promote') return 'good'
  return kind === 'trigger' ? 'busy' : 'quiet'
}
