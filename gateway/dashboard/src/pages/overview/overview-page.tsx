import type { OverviewReport } from '@copal/shared/wire/admin-overview.ts'
import { Code } from '../../components/copy-button.tsx'
import { Loaded } from '../../components/loaded.tsx'
import { Empty } from '../../components/notices.tsx'
import { Page, Section, SentencePlace } from '../../components/page.tsx'
import { Sentence } from '../../components/sentence.tsx'
import { useOverview } from '../../data/data.tsx'
import { useModel } from '../../navigation/navigation.tsx'
import { AdaptingNow, Alerts } from './adapting-now.tsx'
import { Decisions } from './decisions.tsx'
import { DomainsByTraffic } from './domains-by-traffic.tsx'
import { OverviewSkeleton } from './overview-skeleton.tsx'
import { adaptingSentence, costSentence, curlExample, healthSentence, isUnused } from './status-sentences.ts'
import { TrafficFacts } from './traffic-facts.tsx'

/** The overview: health, adaptation, recent decisions and their effects. */
export function OverviewPage() {
  const resource = useOverview(useModel())
  const { value } = resource
  return (
    <Page
      title="Overview"
      sentence={value ? <StatusSentence overview={value} /> : resource.error ? undefined : <SentencePlace />}
    >
      <Loaded resource={resource} skeleton={<OverviewSkeleton />}>
        {(overview) => <OverviewBody overview={overview} />}
      </Loaded>
    </Page>
  )
}

function StatusSentence({ overview }: { overview: OverviewReport }) {
  return (
    <Sentence
      phrases={[
        ...healthSentence(overview),
        ' ',
        ...costSentence(overview),
        ' ',
        ...adaptingSentence(overview),
      ]}
    />
  )
}

function OverviewBody({ overview }: { overview: OverviewReport }) {
  return (
    <div class="overview">
      <TrafficFacts overview={overview} />
      <div class="columns overview-first">
        <AdaptingNow overview={overview} />
        <Alerts alerts={overview.alerts} />
      </div>
      {isUnused(overview) ? (
        <FirstRequest model={overview.model.id} />
      ) : (
        <div class="columns overview-first">
          <Decisions decisions={overview.decisions} />
          <DomainsByTraffic domains={overview.domains} isDense={overview.model.active_version === 0} />
        </div>
      )}
    </div>
  )
}

/** Instructions for the first request. */
function FirstRequest({ model }: { model: string }) {
  return (
    <Section title="First request" class="overview-first">
      <Empty title="No traffic yet. Send a request:">
        <Code text={curlExample(location.origin, model)} label="A request with curl" />
        <p class="soft">
          Its text is kept only with consent: add <code>-H 'x-copal-sample: true'</code>, or allow it for all
          requests of a key with <code>npx copal keys sampling KEY always</code>. Once a domain has enough
          texts, a mask is made for it. Name the domain in the header <code>x-copal-domain</code>; without it,
          domains are found by their content.
        </p>
      </Empty>
    </Section>
  )
}
