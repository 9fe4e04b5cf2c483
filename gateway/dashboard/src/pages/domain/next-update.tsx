import { Loaded } from '../../components/loaded.tsx'
import { Section } from '../../components/page.tsx'
import { Sentence } from '../../components/sentence.tsx'
import { Time } from '../../components/time.tsx'
import { useResource } from '../../data/data.tsx'
import { useNow } from '../../data/now.ts'
import { policy, triggers } from '../../data/endpoints.ts'
import { formatCount, formatShare } from '../../format/numbers.ts'
import { useModel } from '../../navigation/navigation.tsx'
import { nextUpdatePhrases, triggerRows, waitAfterFailures } from './domain-sentence.ts'

/** The triggers of the next update of a domain, and their progress. */
export function NextUpdate({ name }: { name: string }) {
  const model = useModel()
  const resource = useResource(triggers(model), 60_000)
  const inForce = useResource(policy(model))
  const nowMs = useNow(60_000)
  return (
    <Section title="Next update">
      <Loaded resource={resource}>
        {(report) => {
          const domain = report.domains.find((entry) => entry.domain === name)
          const wait = domain && waitAfterFailures(domain, nowMs)
          const rules = inForce.value?.policy.triggers
          return (
            <>
              <Sentence phrases={nextUpdatePhrases(name, report, nowMs)} />
              {domain && (
                <dl class="triggers">
                  {triggerRows(domain, rules).map(({ name: what, progress, now, dueAt }) => (
                    <div key={what}>
                      <dt>{what}</dt>
                      <dd>
                        <meter
                          class="meter"
                          min={0}
                          max={1}
                          value={progress ?? 0}
                          aria-label={`${what}: ${progress === undefined ? 'not known' : formatShare(progress)} of what makes it due`}
                        />
                        <span class="num">{now}</span>
                        <span class="soft">, due at {dueAt}</span>
                      </dd>
                    </div>
                  ))}
                  {domain.missing_holdout_tokens > 0 && (
                    <div>
                      <dt>Held-out text</dt>
                      <dd>{formatCount(domain.missing_holdout_tokens)} tokens are missing to judge a mask</dd>
                    </div>
                  )}
                  {wait && (
                    <div>
                      <dt>Waits until</dt>
                      <dd>
                        <Time at={wait.until} as="clock" />, {wait.reason}
                      </dd>
                    </div>
                  )}
                  {report.next_schedule_at !== null && (
                    <div>
                      <dt>Schedule</dt>
                      <dd>
                        next <Time at={report.next_schedule_at} />, if it has new text
                      </dd>
                    </div>
                  )}
                </dl>
              )}
            </>
          )
        }}
      </Loaded>
    </Section>
  )
}
