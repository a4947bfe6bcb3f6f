// What of Grafana's types a dashboard of ours is checked against, as one JSON Schema.
import type { Dashboard } from "@grafana/schema/dist/types/raw/dashboard/x/types.gen";
import type { Options as Stat } from "@grafana/schema/dist/types/raw/composable/stat/panelcfg/x/types.gen";
import type {
  FieldConfig as TimeSeriesField,
  Options as TimeSeries,
} from "@grafana/schema/dist/types/raw/composable/timeseries/panelcfg/x/types.gen";

// Both panels call theirs "Options", and a schema can have one definition of a name: so they are written out.
type Written<T> = { [K in keyof T]: T[K] };

export interface Checked {
  dashboard: Dashboard;
  stat: Written<Stat>;
  timeseries: Written<TimeSeries>;
  timeseriesField: Written<TimeSeriesField>;
}
