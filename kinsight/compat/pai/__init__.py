"""PAI's command lines: `pai -name easy_vision_ext ...`, `pai -name ev_predict_ext ...`, and the console's component."""
