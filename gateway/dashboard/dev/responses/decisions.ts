import type { DecisionEntry, DecisionFigure } from '@copal/shared/wire/admin-decisions.ts'
import type { UpdateEntry } from '@copal/shared/wire/admin.ts'
import { gateFigures, trialFigures } from './figures.ts'
import { ago } from './service.ts'

/** The decisions of an update that made a mask, oldest first. */
export function decisionsOf(found: UpdateEntry, age: number): DecisionEntry[] {
  const version = found.mask_version ?? 0
  const isRejected = found.state === 'failed'
  const list = [
    decision(
      'trigger',
      'done',
      age + 25,
      `Started by ${found.trigger}: 18 new segments of ${found.domains.join(', ')}.`,
    ),
  ]
  if (found.candidate > 1)
    list.push(
      decision(
        'gate',
        'retried',
        age + 9,
        "Its perplexity on 'legal' is 1.038 × that of the active mask, with an upper bound of 1.061 ×; at most 1.050 × is allowed.",
        gateFigures(true),
        version,
      ),
    )
  list.push(
    isRejected
      ? decision(
          'gate',
          'failed',
          age + 4,
          "Its perplexity on 'legal' is 1.071 × that of the active mask, with an upper bound of 1.094 ×; at most 1.050 × is allowed.",
          gateFigures(true),
          version,
        )
      : decision(
          'gate',
          'passed',
          age + 4,
          'Its perplexity over all domains is 0.958 × that of the active mask, and with 95 % confidence at most 0.972 ×. No domain loses more than the policy allows. One domain was not evaluated: recipes.',
          gateFigures(false),
          version,
        ),
  )
  if (isRejected) return list
  list.push(decision('confirm', 'passed', age + 2, "Node 'node-3' selected the same mask.", [], version))
  if (found.state === 'canary') return list
  list.push(
    decision(
      'canary',
      'passed',
      age - 34,
      `Proven not worse than m${found.parent_version} after 36 minutes: 1412 requests with 38204 tokens were scored.`,
      trialFigures('canary', -0.008),
      version,
    ),
    decision('promote', 'done', age - 36, 'Active; 3 of 3 live nodes serve it.', [], version),
  )
  if (found.state === 'rolled_back')
    list.push(
      decision(
        'watch',
        'failed',
        age - 70,
        `Rolled back: its loss on domain 'legal' is at least 0.0561 nats a token above that of m${found.parent_version}, and 0.0488 are allowed.`,
        trialFigures('watch', 0.07),
        version,
      ),
    )
  else
    list.push(
      decision(
        'watch',
        'done',
        age - 96,
        'No harm in 60 minutes: 2230 requests with 61120 tokens were scored.',
        trialFigures('watch', -0.01),
        version,
      ),
    )
  return list
}

/** A decision, some minutes ago. */
export function decision(
  kind: DecisionEntry['kind'],
  verdict: DecisionEntry['verdict'],
  minutes: number,
  reason: string,
  figures: DecisionFigure[] = [],
  version: number | null = null,
): DecisionEntry {
  return { kind, verdict, reason, mask_version: version, actor: 'copal', created_at: ago(minutes), figures }
}
