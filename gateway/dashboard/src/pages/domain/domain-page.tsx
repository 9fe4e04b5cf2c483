import { Page } from '../../components/page.tsx'

/** The page of domain. */
export function DomainPage() {
  return <Page title="Domain" />
}
