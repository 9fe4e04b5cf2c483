import { Facts } from '../../components/facts.tsx'
import { Skeleton } from '../../components/notices.tsx'
import { Section } from '../../components/page.tsx'

const LABELS = [
  'Tokens a second',
  'Running',
  'Queue',
  'First token, p95',
  'Failed',
  'Nodes alive',
  'Sparsity',
  'Weights on a node',
]

/** The frame of the overview before its numbers come, in their places. */
export function OverviewSkeleton() {
  return (
    <>
      <div class="section">
        <Facts facts={LABELS.map((label) => ({ label, value: '\u00A0' }))} />
      </div>
      <div class="columns">
        <Section title="Adapting now">
          <Skeleton lines={2} />
        </Section>
        <Section title="Alerts">
          <Skeleton lines={2} />
        </Section>
      </div>
      <div class="columns">
        <Section title="Decisions">
          <Skeleton lines={8} />
        </Section>
        <Section title="Domains by traffic">
          <Skeleton lines={8} />
        </Section>
      </div>
    </>
  )
}
