import { useMemo } from 'preact/hooks'
import type { DomainEntry } from '@copal/shared/wire/admin-domains.ts'
import { OTHER_DOMAINS } from '@copal/shared/wire/other-domains.ts'
import { Loaded } from '../../components/loaded.tsx'
import { LoadedTogether } from '../../components/loaded-together.tsx'
import { ChartSkeleton, Empty } from '../../components/notices.tsx'
import { Page, Section, SentencePlace } from '../../components/page.tsx'
import { RangeChoice, useRange } from '../../components/range-choice.tsx'
import { Sentence } from '../../components/sentence.tsx'
import { useOverview, useResource } from '../../data/data.tsx'
import { domains, drift, series, traffic } from '../../data/endpoints.ts'
import { Link } from '../../navigation/link.tsx'
import { useModel } from '../../navigation/navigation.tsx'
import type { PathParams } from '../../navigation/routes.ts'
import { useSession } from '../../session/session.tsx'
import { Detectors } from './detectors.tsx'
import { MakeOwnMask, RemoveFromDomain, UpdateDomain } from './domain-actions.tsx'
import { ChangeOwner } from './domain-owner.tsx'
import { costPhrases } from './domain-sentence.ts'
import { DriftCharts } from './drift-charts.tsx'
import { HoldoutByMask, RMatrix } from './r-matrix.tsx'
import { KeptTexts } from './kept-texts.tsx'
import { NextUpdate } from './next-update.tsx'
import { ReviewQueue } from './review-queue.tsx'

/** One domain: cost of pruning, kept texts, and its next update. */
export function DomainPage({ params }: { params: PathParams }) {
  const name = params['name'] ?? ''
  const session = useSession()
  const readsAll = session.role !== 'tenant'
  const isOthers = name === OTHER_DOMAINS
  // Texts, updates and detectors are of registered domains.
  const showsAdaptation = readsAll && !isOthers
  const mayChange = session.role === 'operator' && session.may_change
  const model = useModel()
  const { from } = useRange()
  const list = useResource(domains(model), 30_000)
  const report = useResource(series({ model, domain: name, from }), 60_000, { keepsLast: true })
  const entry = list.value?.data.find((domain) => domain.name === name)
  const isUnknown = !isOthers && list.value !== undefined && !entry && report.value?.series.length === 0
  return (
    <Page
      title={name}
      above={<Link to="/domains">Domains</Link>}
      sentence={readsAll ? <DomainSentence name={name} entry={entry} /> : undefined}
      actions={
        mayChange &&
        entry && (
          <>
            <MakeOwnMask name={name} entry={entry} />
            <UpdateDomain name={name} entry={entry} />
          </>
        )
      }
    >
      {isUnknown ? (
        <Empty title="There is no domain of this name, and no traffic names it.">
          <p class="soft">
            A request creates one with the header <code>x-copal-domain: {name}</code>.
          </p>
        </Empty>
      ) : (
        <LoadedTogether resources={[list, report]}>
          {isOthers && (
            <p class="soft chart-note">
              These are all domains that are neither registered nor among the first 64 others of the model. A
              domain is registered, and has a page of its own, once a text of it is kept or imported.
            </p>
          )}
          <Section title="Drift" actions={<RangeChoice />}>
            <Loaded resource={report} skeleton={<ChartSkeleton heights={[200, 200, 112]} />}>
              {(value) => <DriftCharts report={value} domain={name} />}
            </Loaded>
          </Section>
          {showsAdaptation && <NextUpdate name={name} />}
          {!isOthers && (
            <div class="columns">
              <Section title="What is kept" actions={mayChange && entry && <ChangeOwner entry={entry} />}>
                <Loaded resource={list}>{() => <KeptTexts entry={entry} showsTexts={readsAll} />}</Loaded>
              </Section>
              {readsAll && <Detectors name={name} />}
            </div>
          )}
          {readsAll && (entry?.review_samples ?? 0) > 0 && <ReviewQueue name={name} />}
          {showsAdaptation && <HeldOut name={name} />}
          {mayChange && entry && (
            <Section title="Remove">
              <RemoveFromDomain name={name} entry={entry} />
            </Section>
          )}
        </LoadedTogether>
      )}
    </Page>
  )
}

function DomainSentence({ name, entry }: { name: string; entry: DomainEntry | undefined }) {
  const model = useModel()
  const overview = useOverview(model)
  const listed = overview.value?.domains.find((domain) => domain.name === name)
  // The overview lists the domains with the most traffic.
  const own = useResource(overview.value && !listed ? traffic(name, model) : undefined, 30_000)
  const summary = listed ?? own.value
  const phrases = useMemo(() => summary && costPhrases(summary, entry), [summary, entry])
  if (phrases) return <Sentence phrases={phrases} />
  return (overview.error ?? own.error) ? null : <SentencePlace />
}

/** Perplexities of held-out text: of this domain by mask, and of all domains as the R matrix. */
function HeldOut({ name }: { name: string }) {
  const resource = useResource(drift(useModel()), 120_000)
  return (
    <Loaded resource={resource}>
      {(report) => (
        <div class="columns">
          <Section title="Held-out text by mask" note="perplexity">
            <HoldoutByMask report={report} domain={name} />
          </Section>
          <Section title="All domains after each mask" note="R matrix">
            <RMatrix report={report} domain={name} />
          </Section>
        </div>
      )}
    </Loaded>
  )
}
