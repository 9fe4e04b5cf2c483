import { Page } from '../../components/page.tsx'

/** The page of overview. */
export function OverviewPage() {
  return <Page title="Overview" />
}
