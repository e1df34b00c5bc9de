# Two real Airflows, each in its own environment, to prove that what dag_author writes loads in both majors.
# The server itself never depends on Airflow. Each environment is made once; its stamp carries the version.

AIRFLOW_DIR := .airflow
AIRFLOW_3   := 3.3.2
AIRFLOW_2   := 2.11.2
AIRFLOW_UV  := $(AIRFLOW_DIR)/uv/bin/uv

.PHONY: airflow
airflow: $(AIRFLOW_DIR)/3/.installed-$(AIRFLOW_3) $(AIRFLOW_DIR)/2/.installed-$(AIRFLOW_2)  ## install Airflow 3 and 2.11 beside .venv, for the tests that import DAGs

# pip needs many minutes to resolve Airflow's dependencies, uv a few seconds.
$(AIRFLOW_UV): | $(STAMP)
	@$(BIN)/python -m venv $(AIRFLOW_DIR)/uv
	@$(AIRFLOW_DIR)/uv/bin/python -m pip install --quiet --disable-pip-version-check uv

$(AIRFLOW_DIR)/3/.installed-$(AIRFLOW_3): | $(AIRFLOW_UV)
	@echo "airflow: installing $(AIRFLOW_3) in $(AIRFLOW_DIR)/3"
	@rm -rf $(AIRFLOW_DIR)/3
	@$(BIN)/python -m venv --without-pip $(AIRFLOW_DIR)/3
	@$(AIRFLOW_UV) pip install --quiet --python $(AIRFLOW_DIR)/3/bin/python \
	    "apache-airflow==$(AIRFLOW_3)" apache-airflow-providers-standard apache-airflow-providers-common-sql
	@touch $@

$(AIRFLOW_DIR)/2/.installed-$(AIRFLOW_2): | $(AIRFLOW_UV)
	@echo "airflow: installing $(AIRFLOW_2) in $(AIRFLOW_DIR)/2"
	@rm -rf $(AIRFLOW_DIR)/2
	@$(BIN)/python -m venv --without-pip $(AIRFLOW_DIR)/2
	@$(AIRFLOW_UV) pip install --quiet --python $(AIRFLOW_DIR)/2/bin/python \
	    "apache-airflow==$(AIRFLOW_2)" apache-airflow-providers-common-sql
	@touch $@
