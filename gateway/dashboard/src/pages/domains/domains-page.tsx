import { useMemo } from 'preact/hooks'
import { Loaded } from '../../components/loaded.tsx'
import { LoadedTogether } from '../../components/loaded-together.tsx'
import { ChartSkeleton, Empty, Skeleton } from '../../components/notices.tsx'
import { Page, Section, SentencePlace } from '../../components/page.tsx'
import { RangeChoice, useRange } from '../../components/range-choice.tsx'
import { Sentence } from '../../components/sentence.tsx'
import { useOverview, useResource } from '../../data/data.tsx'
import { domains, gaps, proposals } from '../../data/endpoints.ts'
import { hasCome } from '../../data/resource.ts'
import { plural } from '../../format/numbers.ts'
import { useModel } from '../../navigation/navigation.tsx'
import { useSession } from '../../session/session.tsx'
import { domainRows, domainsSentence } from './domain-rows.ts'
import { DomainsTable } from './domains-table.tsx'
import { GapByDomain } from './gap-by-domain.tsx'
import { Proposals } from './proposals.tsx'

/** Domains that the overview lists at most. */
const LISTED = 50
const CUT_NOTE = `traffic, cost and state of the ${LISTED} with the most requests; the others have them on their pages`

/** All domains: cost of pruning, kept texts, and domains found in the traffic. */
export function DomainsPage() {
  const { role } = useSession()
  return role === 'tenant' ? <TenantDomains /> : <AllDomains />
}

function AllDomains() {
  const model = useModel()
  const { from } = useRange()
  const list = useResource(domains(model), 30_000)
  const overview = useOverview(model)
  const found = useResource(proposals(model), 60_000)
  const report = useResource(gaps({ model, from }), 60_000, { keepsLast: true })
  const rows = useMemo(() => domainRows(list.value?.data ?? [], overview.value), [list.value, overview.value])
  // The overview leaves out the domains with the least traffic.
  const isCut = rows.length > LISTED && overview.value?.domains.length === LISTED
  const discovered = (
    <Section title="Found in the traffic" note="similar texts without a domain">
      <Loaded resource={found}>
        {({ data }) => (
          <Proposals proposals={data} domains={(list.value?.data ?? []).map(({ name }) => name)} />
        )}
      </Loaded>
    </Section>
  )
  // What waits for a decision comes before the table, which may be long.
  const waits = (found.value?.data.length ?? 0) > 0
  return (
    <Page
      title="Domains"
      sentence={
        list.value && hasCome(found) && hasCome(overview) ? (
          <Sentence
            phrases={domainsSentence(rows, found.value?.data ?? [], overview.value?.unlisted_domains)}
          />
        ) : list.error ? undefined : (
          <SentencePlace />
        )
      }
    >
      <LoadedTogether resources={[list, report, found]}>
        <Section title="What pruning costs" note="perplexity over dense" actions={<RangeChoice />}>
          <Loaded resource={report} skeleton={<ChartSkeleton heights={[240]} />}>
            {(value) => <GapByDomain report={value} />}
          </Loaded>
        </Section>
        {/* Placed when their order is known. */}
        {hasCome(found) && (
          <>
            {waits && discovered}
            <Section title="All domains" note={isCut ? CUT_NOTE : undefined}>
              <Loaded resource={list} skeleton={<Skeleton lines={24} />}>
                {() =>
                  hasCome(overview) ? (
                    <DomainsTable rows={rows} readsAll isDense={overview.value?.model.active_version === 0} />
                  ) : (
                    <Skeleton lines={24} />
                  )
                }
              </Loaded>
            </Section>
            {!waits && discovered}
          </>
        )}
      </LoadedTogether>
    </Page>
  )
}

/** The domains that a tenant owns. */
function TenantDomains() {
  const list = useResource(domains(useModel()), 30_000)
  const rows = useMemo(() => domainRows(list.value?.data ?? [], undefined), [list.value])
  return (
    <Page
      title="Domains"
      sentence={list.value && <p>{`Your tenant owns ${plural(rows.length, 'domain')}.`}</p>}
    >
      <Section title="Your domains">
        <Loaded resource={list}>
          {() =>
            rows.length === 0 ? (
              <Empty title="No domain belongs to your tenant.">
                <p class="soft">The operator of the service can assign one.</p>
              </Empty>
            ) : (
              <DomainsTable rows={rows} readsAll={false} isDense={false} />
            )
          }
        </Loaded>
      </Section>
    </Page>
  )
}
