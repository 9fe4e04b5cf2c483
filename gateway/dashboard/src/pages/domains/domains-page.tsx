import { Page } from '../../components/page.tsx'

/** The page of domains. */
export function DomainsPage() {
  return <Page title="Domains" />
}
